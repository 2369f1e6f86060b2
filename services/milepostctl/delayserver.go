package milepostctl

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// delayServer is the process that load fanout asks: services elsewhere. It is a process of its own because in one process
// requests would wait unread until the client had sent all of its own.
type delayServer struct {
	url  string // ends in a slash
	cmd  *exec.Cmd
	stop io.Closer
}

// startDelayServer runs this program again, as the delay server, until close.
func startDelayServer(ctx context.Context) (*delayServer, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start the delay server: %w", err)
	}
	cmd := exec.CommandContext(ctx, self, "load", "delay-server")
	cmd.Stderr, cmd.Env = os.Stderr, append(os.Environ(), "GOGC=1000")
	stop, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start the delay server: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("start the delay server: %w", err)
	}
	s := &delayServer{cmd: cmd, stop: stop}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		s.close()
		return nil, fmt.Errorf("start the delay server: it does not say where it listens: %w", err)
	}
	s.url = strings.TrimSpace(line)
	return s, nil
}

func (s *delayServer) close() {
	_ = s.stop.Close()
	_ = s.cmd.Wait() // it only waited for this
}

// delayServerCommand is that process. It ends with its input.
func (t *tool) delayServerCommand() *cobra.Command {
	return &cobra.Command{
		Use: "delay-server", Short: "Answer late, for load fanout", Hidden: true, Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			defer l.Close()
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return // closed
					}
					go answerLate(c)
				}
			}()
			fmt.Fprintf(t.Out, "http://%s/\n", l.Addr())
			_, err = io.Copy(io.Discard, t.In)
			return err
		},
	}
}

// answerLate answers GET /?seconds=0.5 after that time, one request after the other until the client closes. It does no more
// than a delay needs: net/http's server would take longer over a request than the client that is measured, on the same
// processors.
func answerLate(c net.Conn) {
	defer c.Close()
	for r := bufio.NewReader(c); ; {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		answer := "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
		if seconds, err := strconv.ParseFloat(req.URL.Query().Get("seconds"), 64); err == nil && seconds >= 0 && seconds <= 60 {
			time.Sleep(time.Duration(seconds * float64(time.Second)))
			answer = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nanswered\n"
		}
		if _, err := io.WriteString(c, answer); err != nil {
			return
		}
	}
}
