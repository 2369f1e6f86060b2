package standalone

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/milepost/milepost/pkg/config"
)

func tell(w io.Writer, cfg Config, status string, o *opened) {
	s := o.stores
	log := cfg.Email.SentEmails
	if abs, err := filepath.Abs(log); err == nil {
		log = abs
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n  The page       http://%s/\n", o.page.Addr())
	if status != "" {
		fmt.Fprintf(&b, "  Its status     %s\n", status)
	}
	fmt.Fprintf(&b, "  The log        %s\n                 tail -F %s\n", log, cfg.Email.SentEmails)
	if s.redis != nil {
		fmt.Fprintf(&b, "  Its Redis      redis-cli -p %s    (in memory: Ctrl-C finishes the events in it, SIGKILL loses them)\n", port(s.redis.Addr()))
	} else {
		fmt.Fprintf(&b, "  Redis          %s\n", config.Mask(string(s.redisURL)))
	}
	if s.docs != nil {
		fmt.Fprintf(&b, "  Its documents  %s    (kept between runs)\n", s.docs.Dir())
	} else {
		fmt.Fprintf(&b, "  MongoDB        %s\n", config.Mask(s.mongoURL))
	}
	fmt.Fprintf(&b, "  Users          http://%s/users/ADDRESS\n", o.users.Addr())
	if cfg.Weather.ProviderURL == "" {
		b.WriteString("  Weather        switched off\n")
	} else {
		fmt.Fprintf(&b, "  Weather        http://%s/api/weather/CITY\n", o.weather.Addr())
		if strings.Contains(string(cfg.Weather.ProviderURL), "open-meteo.com") {
			b.WriteString("                 Open-Meteo's, CC BY 4.0, free for non-commercial use; WEATHER_PROVIDER_URL=off switches it off\n")
		}
	}
	b.WriteString("\n  Ctrl-C stops it.\n\n")
	_, _ = io.WriteString(w, b.String()) // there may be no reader
}

func port(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }
