// Package config reads a program's environment into a struct.
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
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
)

// VariableError says which environment variable has a value that cannot be used, and what could be.
type VariableError struct {
	Name  string
	Value string // masked where it is a secret
	Why   string // reads on after the value: `is not a port (1 to 65535)`
}

func (e *VariableError) Error() string { return fmt.Sprintf("%s: %q %s", e.Name, e.Value, e.Why) }

// Load fills cfg, a pointer to a struct, from getenv. An empty value is the same as none. Fields have these tags:
//
//	env:"NAME"          the variable
//	envDefault:"10s"    its default
//	help:"…"            a line for --help
//	min:"1" max:"9"     bounds of a number or a duration
//	oneof:"a b"         the texts that are allowed
//	allowed:"a colour"  what the value must be, for the error: `NAME: "x" is not a colour`
//	secret:"yes"        mask the value in errors, and read it from the file that NAME_FILE names, if that is set
//
// An [Address] that is only an IP address gets the port of its default. Structs within it are filled too. A field type with UnmarshalText says in its error how the sentence `NAME: "value" …`
// goes on. All wrong variables are reported, each by a [VariableError], joined.
func Load(getenv func(string) string, cfg any) error {
	t := reflect.TypeOf(cfg).Elem()
	values := map[string]string{"": ""} // never empty: an empty map would mean the process' own environment
	var errs []error
	wrong := map[string]bool{}
	for _, v := range describe(t) {
		if wrong[v.name] {
			continue // reported already: two fields may share a variable
		}
		value, err := v.read(getenv)
		if err == nil && value != "" {
			value = v.withPort(value, reflect.ValueOf(cfg).Elem())
			err = v.try(t, value)
		}
		if err != nil {
			errs = append(errs, err)
			wrong[v.name] = true
			delete(values, v.name)
			continue
		}
		values[v.name] = value
	}
	if err := env.ParseWithOptions(cfg, env.Options{Environment: values}); err != nil {
		return errors.Join(append(errs, fmt.Errorf("read environment: %w", err))...)
	}
	return errors.Join(errs...)
}

// variable is a field of a configuration.
type variable struct {
	name  string
	index []int // of the field, from the configuration inwards
	typ   reflect.Type
	tag   reflect.StructTag
}

// describe lists the variables of a configuration type, in the order of the fields.
func describe(t reflect.Type) []variable {
	var vars []variable
	for _, f := range reflect.VisibleFields(t) {
		if len(f.Index) > 1 {
			continue // of an embedded struct, which is looked into below
		}
		name, _, _ := strings.Cut(f.Tag.Get("env"), ",")
		switch {
		case name != "":
			vars = append(vars, variable{name, f.Index, f.Type, f.Tag})
		case f.Type.Kind() == reflect.Struct && (f.Anonymous || f.IsExported()):
			for _, v := range describe(f.Type) {
				v.index = append(slices.Clone(f.Index), v.index...)
				vars = append(vars, v)
			}
		}
	}
	return vars
}

// try fills a configuration of type t with nothing but this variable: an error can then only be about it.
func (v variable) try(t reflect.Type, value string) error {
	cfg := reflect.New(t)
	err := env.ParseWithOptions(cfg.Interface(), env.Options{Environment: map[string]string{v.name: value}})
	if err == nil && v.inBounds(cfg.Elem().FieldByIndex(v.index)) {
		return nil
	}
	var parse env.ParseError
	if errors.As(err, &parse) {
		err = parse.Err
	}
	if v.secret() {
		value = Mask(value)
	}
	return &VariableError{v.name, value, v.why(err)}
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

// withPort adds to an IP address that is to be an [Address] the port of the default: the envDefault, or what cfg holds. So a
// container image can say 0.0.0.0 whichever program is in it.
func (v variable) withPort(value string, cfg reflect.Value) string {
	if v.typ != reflect.TypeFor[Address]() {
		return value
	}
	ip, err := netip.ParseAddr(value)
	if err != nil {
		return value
	}
	_, port, err := net.SplitHostPort(cmp.Or(v.tag.Get("envDefault"), cfg.FieldByIndex(v.index).String()))
	if err != nil { // no default: the value is not whole, and is refused
		return value
	}
	return net.JoinHostPort(ip.String(), port)
}

// why says what the value should have been. Err is what the type's UnmarshalText said, if it has one.
func (v variable) why(err error) string {
	if a := v.tag.Get("allowed"); a != "" {
		return "is not " + a
	}
	if o := v.tag.Get("oneof"); o != "" {
		return "is not one of " + strings.Join(strings.Fields(o), ", ")
	}
	if reflect.PointerTo(v.typ).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) && err != nil {
		return err.Error()
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
	switch {
	case v.typ == reflect.TypeFor[time.Duration]():
		return "is not a duration" + bounds + ", such as 500ms, 10s or 720h"
	case v.typ.Kind() == reflect.Int:
		return "is not a whole number" + bounds
	case v.typ.Kind() == reflect.Float64:
		return "is not a number" + bounds
	}
	return "is not allowed"
}

// inBounds checks a value that was given against the tags min, max and oneof.
func (v variable) inBounds(value reflect.Value) bool {
	if one := v.tag.Get("oneof"); one != "" && !slices.Contains(strings.Fields(one), value.String()) {
		return false
	}
	have := v.number(value)
	if lo := v.tag.Get("min"); lo != "" && !(have >= v.bound(lo)) { // so that NaN is out of bounds
		return false
	}
	if hi := v.tag.Get("max"); hi != "" && !(have <= v.bound(hi)) {
		return false
	}
	return true
}

// number is a value of a type that can have bounds.
func (v variable) number(value reflect.Value) float64 {
	switch {
	case value.CanInt(): // durations too
		return float64(value.Int())
	case value.CanFloat():
		return value.Float()
	}
	return 0
}

// bound reads a tag. One that cannot be read is a mistake in the program.
func (v variable) bound(text string) float64 {
	n, err := strconv.ParseFloat(text, 64)
	if v.typ == reflect.TypeFor[time.Duration]() {
		var d time.Duration
		d, err = time.ParseDuration(text)
		n = float64(d)
	}
	if err != nil {
		panic(fmt.Sprintf("config: bound of %s: %v", v.name, err))
	}
	return n
}

// Help describes the variables of the configurations, one a line. defaults are those that the fields' tags do not tell.
func Help(defaults map[string]string, configs ...any) string {
	var b strings.Builder
	told := map[string]bool{}
	for _, cfg := range configs {
		for _, v := range describe(reflect.TypeOf(cfg)) {
			if told[v.name] {
				continue
			}
			told[v.name] = true
			fmt.Fprintf(&b, "  %-16s %s", v.name, v.tag.Get("help"))
			if def := cmp.Or(defaults[v.name], v.tag.Get("envDefault")); def != "" {
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

// Mask hides what is secret in a value: the password of a URL, all of anything else.
func Mask(value string) string {
	scheme, rest, isURL := strings.Cut(value, "://")
	if !isURL {
		if value == "" {
			return ""
		}
		return "****"
	}
	// Up to the last @, however badly the password is escaped.
	at := strings.LastIndexByte(rest, '@')
	if at < 0 {
		return value
	}
	user, _, hasPassword := strings.Cut(rest[:at], ":")
	if !hasPassword {
		return value
	}
	return scheme + "://" + user + ":****" + rest[at:]
}
