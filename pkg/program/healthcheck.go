package program

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/milepost/milepost/pkg/config"
)

// healthcheck writes /readyz of the program that listens on addr to w, and returns an error if it
// is not ready. With it a container image needs no shell and no HTTP client.
func healthcheck(ctx context.Context, addr config.Address, w io.Writer) error {
	host, port, err := net.SplitHostPort(string(addr))
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
		host = "localhost" // all addresses include the loopback one
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/readyz", nil)
	if err != nil {
		return err
	}
	// No proxy, since the program is on this machine.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(w, io.LimitReader(resp.Body, 64<<10)); err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New("healthcheck: not ready")
	}
	return nil
}
