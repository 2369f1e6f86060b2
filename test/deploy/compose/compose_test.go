package compose

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// load reads docker-compose.yml in dir as docker compose does, with these variables and profiles.
func load(t testing.TB, dir string, env []string, profiles ...string) *types.Project {
	t.Helper()
	return loadFiles(t, dir, env, profiles, "docker-compose.yml")
}

func loadFiles(t testing.TB, dir string, env, profiles []string, names ...string) *types.Project {
	t.Helper()
	for i := range names {
		names[i] = filepath.Join(dir, names[i])
	}
	options, err := cli.NewProjectOptions(names,
		cli.WithWorkingDirectory(dir), cli.WithEnv(env), cli.WithProfiles(profiles), cli.WithResolvedPaths(true))
	stagetest.OK(t, err)
	p, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatalf("%q: %v", names, err)
	}
	return p
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// everything are all profiles.
const everything = "*"

// ours are the services that are programs of this repository.
func ours(p *types.Project) types.Services {
	s := types.Services{}
	for name, c := range p.Services {
		if c.Build != nil {
			s[name] = c
		}
	}
	return s
}

// Without a variable or a profile there are the stores and every program that is a service.
func TestServices(t *testing.T) {
	want := []string{"broker", "cache", "mongo"}
	for _, name := range programs() {
		if !slices.Contains(noService, name) {
			want = append(want, name)
		}
	}
	slices.Sort(want)
	p := load(t, root, nil)
	if got := slices.Sorted(maps.Keys(p.Services)); !slices.Equal(got, want) {
		t.Errorf("docker compose up starts %q, want %q", got, want)
	}
	for name, profile := range map[string]string{"prometheus": "observability", "grafana": "observability", "jaeger": "observability", "milepostctl": "load"} {
		if got := load(t, root, nil, profile).Services[name]; got.Name != name {
			t.Errorf("profile %s has no %s", profile, name)
		}
	}
}

// What every container is refused, and what it must have.
func TestHardened(t *testing.T) {
	hardened(t, load(t, root, nil, everything))
	if dockerfile, err := os.ReadFile(filepath.Join(root, "deploy/Dockerfile")); err != nil || !strings.Contains(string(dockerfile), `ENTRYPOINT ["entrypoint"]`) {
		t.Errorf("the image's entrypoint has another name than the health check uses: %v", err)
	}
}

func hardened(t *testing.T, p *types.Project) {
	t.Helper()
	for name, s := range p.Services {
		endless := name != "milepostctl"
		for what, ok := range map[string]bool{
			"a read-only file system":              s.ReadOnly,
			"no capability":                        slices.Equal(s.CapDrop, []string{"ALL"}) && len(s.CapAdd) == 0,
			"no privilege to gain":                 slices.Equal(s.SecurityOpt, []string{"no-new-privileges:true"}) && !s.Privileged,
			"a memory limit":                       s.MemLimit >= 64<<20,
			"a limit of processes":                 s.PidsLimit > 0,
			"a log that does not fill the disk":    s.Logging != nil && s.Logging.Options["max-size"] != "" && s.Logging.Options["max-file"] != "",
			"a health check":                       !endless || (s.HealthCheck != nil && !s.HealthCheck.Disable && len(s.HealthCheck.Test) > 1),
			"a health check by the program itself": !endless || s.Build == nil || strings.Join(s.HealthCheck.Test, " ") == "CMD entrypoint healthcheck",
			"a restart policy":                     !endless || s.Restart == types.RestartPolicyUnlessStopped,
			"a pinned image":                       regexp.MustCompile(`:.*\w$`).MatchString(s.Image) && !strings.HasSuffix(s.Image, ":latest"),
			"no name or host of its own (--scale)": s.ContainerName == "" && s.Hostname == "" && s.NetworkMode == "",
			"an unprivileged user":                 s.Build != nil || s.User != "" || slices.Contains(s.Profiles, "observability"), // those images say who
		} {
			if !ok {
				t.Errorf("%s: want %s", name, what)
			}
		}
		for other, d := range s.DependsOn {
			if d.Condition != types.ServiceConditionHealthy {
				t.Errorf("%s waits for %s to be %s, want it healthy", name, other, d.Condition)
			}
		}
		for _, v := range s.Volumes {
			if v.Type != types.VolumeTypeBind {
				continue
			}
			if _, err := os.Stat(v.Source); err != nil || !v.ReadOnly {
				t.Errorf("%s: %s is there: %v, read-only: %t", name, v.Source, err == nil, v.ReadOnly)
			}
		}
	}
}

// Of the pipeline only the page and the status page are published, and nothing beyond the loopback
// address; the rest has no way out.
func TestNetwork(t *testing.T) {
	if p := load(t, root, nil); !p.Networks["default"].Internal {
		t.Error("the default network leads out, want it internal")
	}
	p := load(t, root, nil, everything)
	for name, s := range p.Services {
		watches := slices.Contains(s.Profiles, "observability")
		if name == "web-api" && len(s.Ports) != 2 {
			t.Errorf("web-api publishes %v, want its page and its status page", s.Ports)
		}
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" || (name != "web-api" && !watches) {
				t.Errorf("%s publishes %s:%s → %d", name, port.HostIP, port.Published, port.Target)
			}
		}
		_, outside := s.Networks["outside"]
		if want := name == "web-api" || name == "weather" || watches; outside != want {
			t.Errorf("%s is on the network that leads out: %t, want %t", name, outside, want)
		}
	}
	// Each service answers to the name that others reach it by.
	urls := regexp.MustCompile(`http://([a-z-]+):(80\d\d)`)
	for name, s := range p.Services {
		said := strings.Join(s.Command, " ")
		for _, v := range s.Environment {
			if v != nil {
				said += " " + *v
			}
		}
		for _, u := range urls.FindAllStringSubmatch(said, -1) {
			var hosts config.Hosts
			if v := p.Services[u[1]].Environment["ALLOWED_HOSTS"]; v == nil || hosts.UnmarshalText([]byte(*v)) != nil || !hosts.Allow(u[1]) {
				t.Errorf("%s asks %s, which does not answer to that name: ALLOWED_HOSTS %v", name, u[0], hosts)
			}
		}
	}
	ports := load(t, root, []string{"PORT=8080", "STATUS_PORT=8081"}).Services["web-api"].Ports
	if ports[0].Published != "8080" || ports[1].Published != "8081" {
		t.Errorf("with PORT=8080 and STATUS_PORT=8081 the pages are published on %v", ports)
	}
}

// Each service is built as itself, waits for what it uses and is told nothing that it does not
// read.
func TestPrograms(t *testing.T) {
	t.Parallel()
	ownPrograms(t, load(t, root, nil, everything))
}

func ownPrograms(t *testing.T, p *types.Project) {
	t.Helper()
	// Without --build compose pulls the images of the release that the chart installs.
	chart := string(must(os.ReadFile(filepath.Join(root, "charts/milepost/Chart.yaml"))))
	released := regexp.MustCompile(`(?m)^appVersion: (.*)$`).FindStringSubmatch(chart)[1]
	for name, s := range ours(p) {
		if got := *s.Build.Args["SERVICE"]; got != name || s.Image != "ghcr.io/milepost/"+name+":"+released || *s.Build.Args["VERSION"] != released {
			t.Errorf("%s: image %s with SERVICE=%s, VERSION=%s", name, s.Image, got, *s.Build.Args["VERSION"])
		}
		if _, err := os.Stat(filepath.Join(s.Build.Context, s.Build.Dockerfile)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		env := s.Environment
		for variable, store := range map[string]string{"REDIS_URL": "broker", "CACHE_REDIS_URL": "cache", "MONGO_URL": "mongo"} {
			_, uses := env[variable]
			_, waits := s.DependsOn[store]
			if uses != waits && name != "milepostctl" {
				t.Errorf("%s: has %s: %t, waits for %s: %t", name, variable, uses, store, waits)
			}
		}
		said := knows(t, s)
		for _, variable := range []string{"REDIS_URL", "CACHE_REDIS_URL", "MONGO_URL", "USERS_TOKEN", "USERS_URL", "WEATHER_URL"} {
			if _, told := env[variable]; !told && strings.Contains(said, "\n  "+variable+" ") {
				t.Errorf("%s reads %s, which it is not told", name, variable)
			}
		}
		if slices.Contains(noService, name) {
			continue
		}
		var watched []string
		for _, w := range s.Develop.Watch {
			rel, err := filepath.Rel(p.WorkingDir, w.Path)
			if err != nil || w.Action != types.WatchActionRebuild {
				t.Errorf("%s: watches %s to %s, %v", name, w.Path, w.Action, err)
			}
			watched = append(watched, filepath.ToSlash(rel))
		}
		if want := []string{"pkg", "services/go.mod", "services/" + name}; !slices.Equal(watched, want) {
			t.Errorf("docker compose watch rebuilds %s for changes of %q, want %q", name, watched, want)
		}
	}
}

// knows returns the help texts of a program, which name every variable that compose tells it.
func knows(t *testing.T, s types.ServiceConfig) string {
	t.Helper()
	said := help(t, s.Name)
	if s.Name == "milepostctl" {
		said += output(t, "", filepath.Join(build(t), s.Name), "doctor", "--help")
	}
	for variable := range s.Environment {
		if !strings.HasPrefix(variable, "GO") && !regexp.MustCompile(`\b`+variable+`\b`).MatchString(said) { // GOMEMLIMIT is Go's
			t.Errorf("%s is told %s, which its --help does not name", s.Name, variable)
		}
	}
	return said
}

// Secrets are optional; one that is given reaches both sides.
func TestSecrets(t *testing.T) {
	p := load(t, root, []string{"REDIS_PASSWORD=r3dis", "MONGO_PASSWORD=m0ngo", "USERS_TOKEN=t0ken"}, everything)
	for service, want := range map[string]map[string]string{
		"broker":      {"REDIS_PASSWORD": "r3dis", "REDISCLI_AUTH": "r3dis"},
		"cache":       {"REDIS_PASSWORD": "r3dis", "REDISCLI_AUTH": "r3dis"},
		"mongo":       {"MONGO_INITDB_ROOT_USERNAME": "milepost", "MONGO_INITDB_ROOT_PASSWORD": "m0ngo"},
		"users":       {"REDIS_URL": "redis://:r3dis@broker:6379", "CACHE_REDIS_URL": "redis://:r3dis@cache:6379", "MONGO_URL": "mongodb://milepost:m0ngo@mongo:27017/", "USERS_TOKEN": "t0ken"},
		"web-api":     {"REDIS_URL": "redis://:r3dis@broker:6379", "USERS_TOKEN": "t0ken"},
		"milepostctl": {"REDIS_URL": "redis://:r3dis@broker:6379", "CACHE_REDIS_URL": "redis://:r3dis@cache:6379", "MONGO_URL": "mongodb://milepost:m0ngo@mongo:27017/"},
	} {
		for variable, value := range want {
			if got := p.Services[service].Environment[variable]; got == nil || *got != value {
				t.Errorf("%s has %s=%v, want %s", service, variable, got, value)
			}
		}
	}
	for name, s := range load(t, root, nil, everything).Services {
		for variable, value := range s.Environment {
			switch {
			case value == nil:
				t.Errorf("%s takes %s from whoever starts it", name, variable)
			case strings.HasSuffix(variable, "_URL") && strings.Contains(*value, "@"):
				t.Errorf("%s has a password in %s=%s though none is set", name, variable, *value)
			case strings.HasPrefix(variable, "MONGO_INITDB") && *value != "", variable == "REDIS_PASSWORD" && *value != "", variable == "USERS_TOKEN" && *value != "":
				t.Errorf("%s has %s=%s though none is set", name, variable, *value)
			}
		}
	}
}

// With external.yml the programs use stores elsewhere, and the certificates that they are told of.
func TestExternal(t *testing.T) {
	t.Parallel()
	env := []string{"REDIS_URL=rediss://redis.example.com", "MONGO_URL=mongodb://mongo.example.com/", "REDIS_PASSWORD=p@ss", "REDIS_TLS_CA=/certificates/ca.pem"}
	p := loadFiles(t, root, env, []string{"load"}, "docker-compose.yml", "deploy/compose/external.yml")
	for name, s := range ours(p) {
		_, outside := s.Networks["outside"]
		_, certificates := s.Environment["REDIS_TLS_CA"]
		mounted := slices.ContainsFunc(s.Volumes, func(v types.ServiceVolumeConfig) bool { return v.Target == "/certificates" && v.ReadOnly })
		if *s.Environment["REDIS_URL"] != "rediss://redis.example.com" || *s.Environment["REDIS_PASSWORD"] != "p@ss" || !outside || !certificates || !mounted {
			t.Errorf("%s: %v, networks %v, volumes %v", name, s.Environment, s.Networks, s.Volumes)
		}
		if url := s.Environment["MONGO_URL"]; url != nil && *url != "mongodb://mongo.example.com/" {
			t.Errorf("%s has MONGO_URL=%s", name, *url)
		}
		knows(t, s)
	}
	if text := must(os.ReadFile(filepath.Join(root, "deploy/compose/external.yml"))); strings.Contains(string(text), "!reset") {
		t.Error("compose 2.40 forgets a !reset behind an alias, and waits for the stores that are not there")
	}
	for _, store := range []string{"broker", "mongo"} {
		if _, ok := p.Services[store]; ok {
			t.Errorf("%s starts, too", store)
		}
	}
}

// README.md has every variable that docker-compose.yml and the files that it includes read.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("../../../deploy/README.md")
	stagetest.OK(t, err)
	compose := must(os.ReadFile(filepath.Join(root, "docker-compose.yml")))
	for _, path := range must(filepath.Glob(filepath.Join(root, "deploy/compose/*.yml"))) {
		compose = append(compose, must(os.ReadFile(path))...)
	}
	read := regexp.MustCompile(`\$\{([A-Z_]+)`).FindAllSubmatch(compose, -1)
	if len(read) == 0 {
		t.Error("docker-compose.yml reads no variable")
	}
	for _, m := range read {
		if !strings.Contains(string(readme), "`"+string(m[1])+"`") {
			t.Errorf("README.md does not tell of %s", m[1])
		}
	}
}

// A Redis may use less than its container: the broker half, since rewriting the log copies what
// changes meanwhile.
func TestRedisLimits(t *testing.T) {
	p := load(t, root, nil)
	for name, share := range map[string]int64{"broker": 2, "cache": 2} {
		conf, err := os.ReadFile(filepath.Join(root, "charts/milepost/files", name+".conf"))
		stagetest.OK(t, err)
		m := regexp.MustCompile(`(?m)^maxmemory (\d+)mb$`).FindSubmatch(conf)
		if m == nil {
			t.Fatalf("%s.conf has no maxmemory in mb", name)
		}
		mb, err := strconv.ParseInt(string(m[1]), 10, 64)
		stagetest.OK(t, err)
		if limit := int64(p.Services[name].MemLimit); limit < share*mb<<20 {
			t.Errorf("%s may have %d bytes with a maxmemory of %d MB, want %d times that", name, limit, mb, share)
		}
	}
}

// A service that new-service writes is as good as the others.
func TestNewService(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, path := range []string{"docker-compose.yml", "go.work", "charts", "deploy"} {
		if out, err := exec.Command("cp", "-r", filepath.Join(root, path), dir).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	write := exec.Command("go", "run", "./services/internal/newservice", "-root", dir, "-name", "tide", "-from", "raw_input")
	write.Dir = root
	if out, err := write.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	p := load(t, dir, nil)
	tide, distance := p.Services["tide"], p.Services["distance"]
	if tide.Build == nil {
		t.Fatal("docker-compose.yml has no tide")
	}
	hardened(t, p)
	if *tide.Build.Args["SERVICE"] != "tide" || !strings.HasPrefix(tide.Image, "ghcr.io/milepost/tide:") ||
		*tide.Environment["REDIS_URL"] != *distance.Environment["REDIS_URL"] || tide.Develop.Watch[2].Path != filepath.Join(p.WorkingDir, "services/tide") {
		t.Errorf("tide is %+v", tide)
	}
}
