package milepostctl

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// delayServer answers GET /?seconds=0.5 after that time. It stands for services elsewhere but works on the same processors
// as who asks it, so it does no more than a delay needs: net/http's server would take longer over a request than the client
// that is measured.
type delayServer struct {
	listener net.Listener
	serving  sync.WaitGroup
	mu       sync.Mutex
	open     map[net.Conn]struct{} // nil once closed
}

func newDelayServer() (*delayServer, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &delayServer{listener: l, open: map[net.Conn]struct{}{}}
	s.serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			s.mu.Lock()
			if s.open == nil {
				_ = c.Close()
			} else {
				s.open[c] = struct{}{}
				s.serving.Go(func() { s.serve(c) })
			}
			s.mu.Unlock()
		}
	})
	return s, nil
}

// serve answers one request after the other until the client closes.
func (s *delayServer) serve(c net.Conn) {
	defer c.Close()
	for r := bufio.NewReader(c); ; {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		answer := "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nanswered\n"
		seconds, err := strconv.ParseFloat(req.URL.Query().Get("seconds"), 64)
		if err != nil {
			answer = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
		}
		time.Sleep(time.Duration(seconds * float64(time.Second)))
		if _, err := io.WriteString(c, answer); err != nil {
			return
		}
	}
}

// close ends all connections. A request that waits is not answered.
func (s *delayServer) close() {
	_ = s.listener.Close()
	s.mu.Lock()
	for c := range s.open {
		_ = c.Close()
	}
	s.open = nil
	s.mu.Unlock()
}
