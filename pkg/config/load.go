// Package config reads the environment of a program into a struct: see [Load]. Its structs
// [Broker], [Mongo], [Office] and [CacheRedis] are what several programs read; its types, such as
// [Port] and [RedisURL], are values that say in their errors what is allowed.
package config

import (
	"cmp"
	"encoding"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// VariableError says which environment variable has a wrong value, and what is allowed.
type VariableError struct {
	Name  string
	Value string // a secret is masked
	Why   string // continues the sentence after the value: `is not a port (1 to 65535)`
}

func (e *VariableError) Error() string { return fmt.Sprintf("%s: %q %s", e.Name, e.Value, e.Why) }

// Load fills cfg, a pointer to a struct, and the structs in it from getenv. An empty value counts
// as unset. Fields are string, int, float64, [time.Duration] or have UnmarshalText, whose error
// continues the sentence `NAME: "value" …`. Their tags:
//
//	env:"NAME"          the variable
//	envDefault:"10s"    its default; without one the field keeps its value
//	help:"…"            its line in --help
//	min:"1" max:"9"     bounds of a number or a duration
//	oneof:"a b"         the texts that are allowed
//	allowed:"a colour"  for the error: `NAME: "x" is not a colour`
//	needs:"NAME"        another variable that must be set, too
//	secret:"yes"        mask the value in errors; NAME_FILE may name a file that holds it
//
// An [Address] that is only an IP address gets the port of its default. The error joins a
// [*VariableError] for each wrong variable.
func Load(getenv func(string) string, cfg any) error {
	var errs []error
	wrong := map[string]bool{}
	for _, v := range variables(reflect.ValueOf(cfg).Elem()) {
		if wrong[v.name] {
			continue // two fields may share a variable
		}
		if err := v.load(getenv); err != nil {
			errs = append(errs, err)
			wrong[v.name] = true
		}
	}
	return errors.Join(errs...)
}

// Help describes the variables of the configurations, one a line. The default of a field without
// the tag envDefault is its value.
func Help(configs ...any) string {
	var b strings.Builder
	told := map[string]bool{}
	for _, cfg := range configs {
		for _, v := range variables(reflect.ValueOf(cfg)) {
			if told[v.name] {
				continue
			}
			told[v.name] = true
			fmt.Fprintf(&b, "  %-16s %s", v.name, v.tag.Get("help"))
			def := v.tag.Get("envDefault")
			if def == "" && (!v.field.IsZero() || v.field.Kind() == reflect.Bool) {
				def = fmt.Sprint(v.field)
			}
			if def != "" {
				fmt.Fprintf(&b, " (default %s)", def)
			}
			if v.secret() {
				fmt.Fprintf(&b, "; or %s_FILE: a file that holds it", v.name)
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}

type variable struct {
	name  string
	field reflect.Value
	tag   reflect.StructTag
}

// variables lists those of a struct, in the order of the fields.
func variables(cfg reflect.Value) []variable {
	var vars []variable
	for i := range cfg.NumField() {
		f := cfg.Type().Field(i)
		switch name := f.Tag.Get("env"); {
		case name != "":
			vars = append(vars, variable{name, cfg.Field(i), f.Tag})
		case f.Type.Kind() == reflect.Struct && (f.Anonymous || f.IsExported()):
			vars = append(vars, variables(cfg.Field(i))...)
		}
	}
	return vars
}

func (v variable) load(getenv func(string) string) error {
	value, err := v.read(getenv)
	if err != nil {
		return err
	}
	if value = v.withPort(cmp.Or(value, v.tag.Get("envDefault"))); value == "" {
		return nil
	}
	if other := v.tag.Get("needs"); other != "" && getenv(other) == "" {
		return &VariableError{v.name, value, "needs " + other + ", which is not set"}
	}
	err = v.set(value)
	if err == nil && v.inBounds() {
		return nil
	}
	if v.secret() {
		value = Mask(value)
	}
	return &VariableError{v.name, value, v.why(err)}
}

func (v variable) set(value string) (err error) {
	switch p := v.field.Addr().Interface().(type) {
	case encoding.TextUnmarshaler:
		return p.UnmarshalText([]byte(value))
	case *string:
		*p = value
	case *int:
		*p, err = strconv.Atoi(value)
	case *float64:
		*p, err = strconv.ParseFloat(value, 64)
	case *time.Duration:
		*p, err = time.ParseDuration(value)
	default:
		panic(fmt.Sprintf("config: %s has a field of type %T", v.name, p))
	}
	return err
}

func (v variable) secret() bool { return v.tag.Get("secret") != "" }

// read looks the variable up, in its own name or in the file that NAME_FILE names.
func (v variable) read(getenv func(string) string) (string, error) {
	value := getenv(v.name)
	if !v.secret() {
		return value, nil
	}
	file := getenv(v.name + "_FILE")
	if file == "" {
		return value, nil
	}
	if value != "" {
		return "", &VariableError{v.name + "_FILE", file, "is set as well as " + v.name + "; set one of them"}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		if cause := errors.Unwrap(err); cause != nil {
			err = cause
		}
		return "", &VariableError{v.name + "_FILE", file, fmt.Sprintf("cannot be read: %v", err)}
	}
	value = strings.TrimRight(string(b), "\r\n")
	if value == "" {
		return "", &VariableError{v.name + "_FILE", file, "names an empty file"}
	}
	return value, nil
}

// withPort adds to an [Address] that is only an IP address the port of the default, or of the
// field's value. So a container image can say 0.0.0.0 for every program.
func (v variable) withPort(value string) string {
	ip, err := netip.ParseAddr(value)
	if err != nil || v.field.Type() != reflect.TypeFor[Address]() {
		return value
	}
	_, port, err := net.SplitHostPort(cmp.Or(v.tag.Get("envDefault"), v.field.String()))
	if err != nil { // there is no default, so the value is refused
		return value
	}
	return net.JoinHostPort(ip.String(), port)
}

// why says what the value should have been. err is that of set.
func (v variable) why(err error) string {
	if a := v.tag.Get("allowed"); a != "" {
		return "is not " + a
	}
	if o := v.tag.Get("oneof"); o != "" {
		return "is not one of " + strings.Join(strings.Fields(o), ", ")
	}
	lo, hi := v.tag.Get("min"), v.tag.Get("max")
	bounds := ""
	switch {
	case lo != "" && hi != "":
		bounds = " from " + lo + " to " + hi
	case lo != "":
		bounds = " of at least " + lo
	case hi != "":
		bounds = " of at most " + hi
	}
	switch v.field.Interface().(type) {
	case time.Duration:
		return "is not a duration" + bounds + ", such as 500ms, 10s or 720h"
	case int:
		return "is not a whole number" + bounds
	case float64:
		return "is not a number" + bounds
	}
	return err.Error()
}

func (v variable) inBounds() bool {
	if one := v.tag.Get("oneof"); one != "" {
		return slices.Contains(strings.Fields(one), v.field.String())
	}
	var n float64
	switch {
	case v.field.CanInt(): // a duration too
		n = float64(v.field.Int())
	case v.field.CanFloat():
		n = v.field.Float()
	}
	lo, hi := v.tag.Get("min"), v.tag.Get("max")
	return (lo == "" || n >= v.bound(lo)) && (hi == "" || n <= v.bound(hi)) // false for NaN
}

// bound reads the tag min or max. A wrong one is a mistake in the program.
func (v variable) bound(text string) float64 {
	n, err := strconv.ParseFloat(text, 64)
	if v.field.Type() == reflect.TypeFor[time.Duration]() {
		var d time.Duration
		d, err = time.ParseDuration(text)
		n = float64(d)
	}
	if err != nil {
		panic(fmt.Sprintf("config: bound of %s: %v", v.name, err))
	}
	return n
}

// passwordOption is the password of Redis in a URL that names Sentinels.
var passwordOption = regexp.MustCompile(`([?&]password=)[^&]*`)

// Mask hides what is secret in a value: the password of a URL, all of anything else.
func Mask(value string) string {
	scheme, rest, isURL := strings.Cut(value, "://")
	if !isURL {
		if value == "" {
			return ""
		}
		return "****"
	}
	rest = passwordOption.ReplaceAllString(rest, "$1****")
	// Up to the last @, however badly the password is escaped.
	at := strings.LastIndexByte(rest, '@')
	if at < 0 {
		return scheme + "://" + rest
	}
	user, _, hasPassword := strings.Cut(rest[:at], ":")
	if !hasPassword {
		return scheme + "://" + rest
	}
	return scheme + "://" + user + ":****" + rest[at:]
}
