package telemetry

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/milepost/milepost/pkg/config"
)

// collector sends spans over OTLP/HTTP, https://opentelemetry.io/docs/specs/otlp/#otlphttp. It
// replaces OpenTelemetry's own client, otlptracehttp: v1.47.0 still links 66 packages of gRPC,
// which costs each program 10 MB of disk, and memory even without traces
// (https://github.com/open-telemetry/opentelemetry-go/issues/2579).
//
// It logs once that spans are not delivered, and once that they are again.
type collector struct {
	url     string
	headers map[string]string
	gzip    bool
	timeout time.Duration // of a batch, including all attempts
	client  *http.Client
	log     *slog.Logger
	failing atomic.Bool
}

func (o otlp) collector(endpoint, header string, log *slog.Logger) (*collector, error) {
	if name, v := o.get("PROTOCOL"); v != "" && v != "http/protobuf" {
		return nil, &config.VariableError{Name: name, Value: v, Why: "is not http/protobuf, the only protocol of this program (a collector's port for it is 4318)"}
	}
	h, err := headers(header)
	if err != nil {
		return nil, err
	}
	c := &collector{url: endpoint, headers: h, timeout: 10 * time.Second, log: log}
	switch name, v := o.get("COMPRESSION"); v {
	case "", "none":
	case "gzip":
		c.gzip = true
	default:
		return nil, &config.VariableError{Name: name, Value: v, Why: "is not gzip or none"}
	}
	if name, v := o.get("TIMEOUT"); v != "" {
		ms, err := strconv.Atoi(v)
		if err != nil || ms < 1 {
			return nil, &config.VariableError{Name: name, Value: v, Why: "is not a number of milliseconds above 0"}
		}
		c.timeout = time.Duration(ms) * time.Millisecond
	}
	tlsConfig, err := o.tls()
	if err != nil {
		return nil, err
	}
	c.client = &http.Client{
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: tlsConfig, MaxIdleConns: 1, IdleConnTimeout: time.Minute},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// tls returns the configuration with the given certificates; nil means the system's.
func (o otlp) tls() (*tls.Config, error) {
	caName, ca := o.get("CERTIFICATE")
	certName, cert := o.get("CLIENT_CERTIFICATE")
	_, key := o.get("CLIENT_KEY")
	if ca == "" && cert == "" {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		c.RootCAs = x509.NewCertPool()
		if err != nil || !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.Join(&config.VariableError{Name: caName, Value: ca, Why: "is not a file with certificates"}, err)
		}
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, errors.Join(&config.VariableError{Name: certName, Value: cert, Why: "is not a file with a certificate for the key in …_CLIENT_KEY"}, err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

func (c *collector) Start(context.Context) error { return nil }

func (c *collector) Stop(context.Context) error {
	c.client.CloseIdleConnections()
	return nil
}

// UploadTraces implements otlptrace.Client. A batch that is not delivered is dropped without an
// error.
func (c *collector) UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	// The same bytes as an ExportTraceServiceRequest, whose package links gRPC.
	body, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: spans})
	if err == nil {
		err = c.send(ctx, body)
	}
	if err == nil {
		if c.failing.Swap(false) {
			c.log.Info("traces are delivered again", "to", config.Mask(c.url))
		}
	} else if !c.failing.Swap(true) {
		c.log.Warn("traces are not delivered; the program works on", "to", config.Mask(c.url), "err", err)
	}
	return nil
}

// send posts body until the collector accepts or refuses it, or the timeout ends.
func (c *collector) send(ctx context.Context, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	if c.gzip {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = z.Write(body) // a buffer takes everything
		_ = z.Close()
		body = b.Bytes()
	}
	for pause := 500 * time.Millisecond; ; pause *= 2 {
		again, err := c.post(ctx, body)
		if again < 0 || err == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(max(again, pause/2+rand.N(pause/2))):
		}
	}
}

// post posts body once. A negative again means that it must not be repeated, else it is the
// shortest pause before the next attempt.
func (c *collector) post(ctx context.Context, body []byte) (again time.Duration, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return -1, err
	}
	r.Header.Set("Content-Type", "application/x-protobuf")
	r.Header.Set("User-Agent", "milepost")
	if c.gzip {
		r.Header.Set("Content-Encoding", "gzip")
	}
	for name, value := range c.headers {
		r.Header.Set(name, value)
	}
	response, err := c.client.Do(r)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err // without the URL, which is logged beside it
		}
		return -1, err
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10)) // so that the connection is reused
	if response.StatusCode/100 == 2 {
		return -1, nil
	}
	err = fmt.Errorf("the collector answered %s", response.Status)
	switch response.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		seconds, _ := strconv.Atoi(response.Header.Get("Retry-After"))
		return time.Duration(max(0, seconds)) * time.Second, err
	}
	return -1, err
}
