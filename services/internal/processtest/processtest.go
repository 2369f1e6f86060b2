// Package processtest is for tests of programs.
package processtest

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// Until asks address until the answer has the text. It fails the test at once if the program ends.
func Until(t testing.TB, address, text string, ended <-chan error) {
	t.Helper()
	var body []byte
	ok := false
	defer func() {
		if !ok {
			t.Logf("GET %s: last answer %q", address, body)
		}
	}()
	stagetest.Eventually(t, fmt.Sprintf("GET %s answers %q", address, text), func() bool {
		select {
		case err := <-ended:
			t.Fatalf("the program ended with %v", err)
		default:
		}
		resp, err := http.Get(address)
		if err != nil {
			return false // not listening yet
		}
		defer resp.Body.Close()
		body, err = io.ReadAll(resp.Body)
		ok = err == nil && strings.Contains(string(body), text)
		return ok
	})
}
