package email

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"
	_ "time/tzdata" // for images without zone files
)

// Zone is the time zone of the lines' times. The zero Zone is the system's.
type Zone struct{ location *time.Location }

// UnmarshalText reads a zone as TZ names it: "Asia/Jerusalem", ":Asia/Jerusalem" or the path of a
// zone file.
func (z *Zone) UnmarshalText(b []byte) error {
	name := strings.TrimPrefix(string(b), ":")
	var err error
	if filepath.IsAbs(name) {
		var data []byte
		if data, err = os.ReadFile(name); err == nil {
			z.location, err = time.LoadLocationFromTZData(name, data)
		}
	} else {
		z.location, err = time.LoadLocation(name)
	}
	if err != nil {
		return errors.New("is not a time zone such as Asia/Jerusalem or UTC")
	}
	return nil
}

func (z Zone) Location() *time.Location {
	if z.location == nil {
		return time.Local
	}
	return z.location
}
