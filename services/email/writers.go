package email

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// Writers are the operator's settings of several writers on a Redis Cluster. The zero value is one.
type Writers struct {
	Writers int `env:"EMAIL_WRITERS" envDefault:"1" min:"1" max:"256" help:"writers that share the shards of a Redis Cluster, each with a log of its own"`
	Writer  int `env:"EMAIL_WRITER" envDefault:"-1" min:"-1" max:"255" help:"number of this writer, from 0; -1: the number at the end of the host name, as a StatefulSet has it"`
}

// number is this process's, from 0.
func (w Writers) number(host string) (n int, err error) {
	n, most := w.Writer, cmp.Or(w.Writers, 1)
	if most == 1 {
		n = max(n, 0)
	} else if n < 0 {
		if n, err = strconv.Atoi(host[strings.LastIndexByte(host, '-')+1:]); err != nil {
			return 0, fmt.Errorf("EMAIL_WRITER: it is needed if EMAIL_WRITERS is %d, since the host name %q does not end with a number", most, host)
		}
	}
	if n >= most {
		return 0, fmt.Errorf("EMAIL_WRITER: %d must be less than EMAIL_WRITERS, %d", n, most)
	}
	return n, nil
}
