// Package processtest is for tests of programs and of services that answer requests.
package processtest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
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

// Serve runs a service on a free port until the test ends and returns its base URL. run must close
// the listener and return nil when its context ends.
func Serve(t testing.TB, run func(ctx context.Context, l net.Listener) error) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return "http://" + l.Addr().String()
}

// GetJSON decodes the answer to a GET request into answer and returns its status. authorization is
// the request's header, or "".
func GetJSON(t testing.TB, address, authorization string, answer any) (status int) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(body, answer); err != nil {
		t.Fatalf("GET %s answered %q: %v", address, body, err)
	}
	return response.StatusCode
}
