package event

import (
	"errors"
	"fmt"
	"net/mail"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ErrAddress is wrapped by the error of a string that is not an email address.
var ErrAddress = errors.New("not an email address")

// maxAddress is the longest address that SMTP carries, in bytes (RFC 5321 section 4.5.3.1.3, less
// the brackets).
const maxAddress = 254

// Address is an email address: an addr-spec such as ada@example.com, without a display name. On
// user:email it is the whole payload, without JSON.
type Address string

// Validate returns an error wrapping [ErrAddress] unless a is an addr-spec (RFC 5322) of at most
// 254 bytes. Characters that could break or forge a line of a log are refused: controls (CR, LF,
// ESC, C1, U+0085), line and paragraph separators, bidi and other invisible formatting, spaces
// other than U+0020. The error does not repeat the address, since errors are logged.
func (a Address) Validate() error {
	s := string(a)
	switch {
	case s == "":
		return addressError("email address is missing")
	case len(s) > maxAddress:
		return addressError(fmt.Sprintf("email address has %d bytes, at most %d are allowed", len(s), maxAddress))
	case plain(s):
		return nil
	case !utf8.ValidString(s):
		return addressError("email address is not UTF-8")
	}
	for _, r := range s {
		if r != ' ' && unicode.In(r, unicode.Cc, unicode.Cf, unicode.Z) {
			return addressError(fmt.Sprintf("email address has the forbidden character %U", r))
		}
	}
	// The parser also accepts comments and folding. Only an addr-spec is written back unchanged.
	if parsed, err := mail.ParseAddress("<" + s + ">"); err != nil || parsed.String() != "<"+s+">" {
		return addressError("email address is not of the form ada@example.com")
	}
	return nil
}

// plain reports whether s is an address of the usual form, two dot-atoms of ASCII with an @ between
// them. It saves the parser, which costs more than the rest of a stage's work on an event.
func plain(s string) bool {
	local, domain, _ := strings.Cut(s, "@")
	return dotAtom(local) && dotAtom(domain)
}

// dotAtom reports whether s is a dot-atom-text of RFC 5322.
func dotAtom(s string) bool {
	for atom := range strings.SplitSeq(s, ".") {
		if atom == "" {
			return false
		}
		for i := range len(atom) {
			c := atom[i]
			letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
			if !letter && strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) < 0 {
				return false
			}
		}
	}
	return true
}

// addressError is an error with its own text that [errors.Is] takes for [ErrAddress].
type addressError string

func (e addressError) Error() string   { return string(e) }
func (e addressError) Is(t error) bool { return t == ErrAddress }
