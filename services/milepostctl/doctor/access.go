package doctor

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/cache"
	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/stage"
)

// program is one of the application, as far as its rights in Redis depend on it. Without In it is a
// publisher. test/e2e compares the rights with what the programs ask for.
type program struct {
	stage.Config
	caches bool
}

var programs = []program{
	{stage.Config{Name: "web-api", Out: []stage.Output{{Channel: event.RawInput}}}, false},
	{stage.Config{Name: "distance", In: event.RawInput, Out: []stage.Output{{Channel: event.CalculatedDistance}}}, false},
	{stage.Config{Name: "db", In: event.CalculatedDistance, Out: []stage.Output{{Channel: event.UserEmail}}}, false},
	{stage.Config{Name: "email", In: event.UserEmail, Out: []stage.Output{{Channel: event.EmailSent, Unread: true}}}, false},
	{stage.Config{Name: "weather", In: event.RawInput, Out: []stage.Output{{Channel: event.WeatherReport, Unread: true}}}, true},
	{stage.Config{Name: "users", In: event.UserEmail}, true},
}

// needed are the programs whose rights the user needs: of a user with the name of one, that alone.
func (x *examination) needed() []program {
	if i := slices.IndexFunc(programs, func(p program) bool { return p.Name == x.Redis.Username }); i >= 0 {
		return programs[i : i+1]
	}
	return programs
}

// rights says whether the user may do what the programs need, and whether Redis takes writes.
func (x *examination) rights(ctx context.Context) answer {
	b, err := stage.Open(stage.Options{Redis: x.Redis, Nodes: x.Nodes, Prefix: x.Prefix, Shards: -1, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return answer{Failed, err.Error(), "Correct the settings."}
	}
	defer func() { _ = b.Close() }() // nothing was written
	var names []string
	for _, p := range x.needed() {
		names = append(names, p.Name)
		if p.In == "" {
			err = errors.Join(err, b.Publisher(p.Name, p.Out[0].Channel).Close())
			continue
		}
		_, wrong := b.New(p.Config, stage.Each(func(context.Context, stage.Event[string]) (string, error) { return "", nil }))
		err = errors.Join(err, wrong)
	}
	ctx, cancel := context.WithTimeout(ctx, x.Timeout)
	defer cancel()
	if err == nil {
		err = b.Ping(ctx)
	}
	if err != nil {
		return answer{Failed, err.Error(), remedy(err, "REDIS", x.Redis)}
	}
	return answer{OK, "enough for " + strings.Join(names, ", "), ""}
}

// cacheRights does what a cache does.
func (x *examination) cacheRights(ctx context.Context, o *redis.Options) answer {
	c := cache.Open(o, x.Prefix, slog.New(slog.DiscardHandler))
	defer func() { _ = c.Close() }() // what it wrote, it has deleted
	if err := c.Ping(ctx); err != nil {
		return answer{Failed, err.Error(), remedy(err, "CACHE_REDIS", o)}
	}
	return answer{OK, "enough for weather, users", ""}
}

// keys looks for keys of other programs.
func (x *examination) keys(ctx context.Context) answer {
	found, err := x.Pipeline.WrongKeys(ctx, event.Channels()...)
	if err != nil {
		return answer{Unknown, err.Error(), remedy(err, "REDIS", x.Redis)}
	}
	if len(found) == 0 {
		return answer{OK, "no foreign ones", ""}
	}
	var wrong, renames []string
	for _, k := range found {
		wrong = append(wrong, fmt.Sprintf("%s is a %s, not a %s", k.Key, k.Is, k.Want))
		renames = append(renames, fmt.Sprintf("RENAME %s %[1]s.foreign", k.Key))
	}
	return answer{Failed, strings.Join(wrong, "; "), strings.Join(renames, "; ") + ". KEY_PREFIX keeps programs apart that share a Redis."}
}

// remedy says what mends the error of a call to Redis. The names of the variables that say where it
// is begin with variables.
func remedy(err error, variables string, o *redis.Options) string {
	var host x509.HostnameError
	var certificate x509.CertificateInvalidError
	switch {
	case errors.As(err, &host):
		return "Name the server as its certificate does, in " + variables + "_URL or " + variables + "_HOST."
	case errors.As(err, &certificate):
		return "Give the server a certificate that is valid now and for servers."
	}
	if _, grant, ok := strings.Cut(err.Error(), "to allow it: "); ok {
		return grant
	}
	change := advice(err, [][2]string{
		{"it is a Sentinel", "A Sentinel has no data. Name its master in $_URL: redis://HOST:26379/0?master_name=NAME. SENTINEL MASTERS lists the names."},
		{"knows no master", "Correct master_name= in $_URL. SENTINEL MASTERS, asked of a Sentinel, lists the names."},
		{"Sentinel refuses", "Set $_SENTINEL_PASSWORD to the password of the Sentinels, and write a user, if they have one, before the @ of $_URL."},
		{"the master that Sentinel names", "This machine must reach the master at the address that Sentinel gives it: replica-announce-ip in its redis.conf sets that."},
		{"Sentinel", "$_URL must name the Sentinels, usually at port 26379, and they must run: redis://HOST:26379/0?master_name=NAME&addr=HOST:26379"},
		{"unknown authority", "$_TLS_CA=<PEM file with the authority that signed the server's certificate>"},
		{"no TLS", noTLS},
		{"like a TLS handshake", noTLS},
		{"lookup ", "Correct the host's name in $_URL or $_HOST, or look at DNS."},
		{"connection refused", "Start it, or name another one in $_URL."},
		{"WRONGPASS", "Correct the user or password in $_USERNAME and $_PASSWORD, or set it: ACL SETUSER @ on ><password>"},
		{"NOAUTH", "Set $_PASSWORD, and $_USERNAME if the user is not default."},
		{"without any password configured", "Unset $_PASSWORD and remove it from $_URL, or give the server one: CONFIG SET requirepass <password>"},
		{"'ping' command", "ACL SETUSER @ +ping"},
		{"'select' command", "ACL SETUSER @ +select"},
		{"DB index is out of range", "Name a database that the server has at the end of $_URL; `CONFIG GET databases` says how many there are."},
		{"READONLY", "Name the master in $_URL, or make this one the master: REPLICAOF NO ONE"},
		{"NOREPLICAS", "Start the replicas, or: CONFIG SET min-replicas-to-write 0"},
		{"MISCONF", "Make room on its disk, and look at its log."},
		{"LOADING", "Wait until it has read its file."},
		{"BUSY", "A script of another program runs: SCRIPT KILL"},
		{"max number of clients", "CONFIG SET maxclients 10000"},
		{"DENIED", "Give the server a password, or a `bind` to a private network: it is in protected mode."},
		{"certificate", "$_TLS_CERT=<PEM file with a client certificate that the server trusts> and $_TLS_KEY=<its key>"},
		{"EOF", "If the server wants TLS, write rediss:// in $_URL, or set $_TLS_CA."},
		{"connection reset", "If the server wants TLS, write rediss:// in $_URL, or set $_TLS_CA."},
		{"", "Look at the network between here and there, and at the server's log."},
	})
	return strings.NewReplacer("$", variables, "@", cmp.Or(o.Username, "default")).Replace(change)
}

const noTLS = "The server speaks no TLS: write redis:// in $_URL, and unset $_TLS_CA and $_TLS_CERT."

// advice is what a table of texts and changes says of the first text that is in err; "" if none is.
func advice(err error, table [][2]string) string {
	i := slices.IndexFunc(table, func(row [2]string) bool { return strings.Contains(err.Error(), row[0]) })
	if i < 0 {
		return ""
	}
	return table[i][1]
}
