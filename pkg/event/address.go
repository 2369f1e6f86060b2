package event

import (
	"errors"
	"fmt"
	"net/mail"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// ErrAddress is wrapped by the error of a string that is not an email address.
var ErrAddress = errors.New("not an email address")

// maxAddress is the longest address that SMTP carries, in bytes (RFC 5321 section 4.5.3.1.3, less
// the brackets).
const maxAddress = 254

// Address is an email address: an addr-spec such as ada@example.com, without a display name. On
// user:email it is the whole payload, without JSON.
type Address string

// Canonical returns the one spelling of a that is published: in NFC, the domain in lower case and
// in Unicode. The local part stays as typed, since a mail server may care about its case. What
// [Address.Validate] refuses may stay as it is.
func (a Address) Canonical() Address {
	s := string(a)
	if !utf8.ValidString(s) || strings.ContainsFunc(s, forbidden) {
		return a
	}
	at := strings.LastIndexByte(s, '@')
	if at < 0 {
		return a
	}
	local, domain := norm.NFC.String(s[:at]), strings.ToLower(s[at+1:])
	if !hostname(domain) && !strings.HasPrefix(domain, "[") {
		if name, err := domains.ToUnicode(s[at+1:]); err == nil {
			domain = name
		}
	}
	if local == s[:at] && domain == s[at+1:] {
		return a
	}
	return Address(local + "@" + domain)
}

// Mailbox returns the same string for all addresses of one mailbox: it ignores letter case, too.
func (a Address) Mailbox() string {
	s := string(a.Canonical())
	at := strings.LastIndexByte(s, '@')
	if at < 0 || !strings.ContainsFunc(s[:at], func(r rune) bool { return r >= utf8.RuneSelf || 'A' <= r && r <= 'Z' }) {
		return s
	}
	return norm.NFC.String(cases.Fold().String(s[:at])) + s[at:]
}

// Untagged returns a without the tag that many servers ignore: ada@example.com for
// ada+news@example.com.
func (a Address) Untagged() Address {
	at := strings.LastIndexByte(string(a), '@')
	if plus := strings.IndexByte(string(a), '+'); plus > 0 && plus < at && a[0] != '"' {
		return a[:plus] + a[at:]
	}
	return a
}

// domains maps domains to their one form (UTS 46) and checks them.
var domains = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.VerifyDNSLength(true), idna.CheckHyphens(false))

// Validate returns an error wrapping [ErrAddress] unless a is an addr-spec (RFC 5322) of at most
// 254 bytes whose domain can be a host's name (IDNA 2008) or is an IP address in brackets.
// Characters that could break or forge a line of a log are refused: controls (CR, LF, ESC, C1,
// U+0085), separators, bidi and other invisible characters, spaces other than U+0020, and a
// semicolon in quotes, which ends the address in sent_emails. The error does not repeat the
// address, since errors are logged; it names a likely mistake.
func (a Address) Validate() error {
	s := string(a)
	switch {
	case s == "":
		return addressError("email address is missing")
	case len(s) > maxAddress:
		return addressError(fmt.Sprintf("email address has %d bytes, at most %d are allowed", len(s), maxAddress))
	case plain(s):
		return nil
	case strings.ContainsRune(s, utf8.RuneError): // also U+FFFD, by which decoders replace bad bytes
		return addressError("email address is not UTF-8")
	}
	for _, r := range s {
		if forbidden(r) {
			return addressError(fmt.Sprintf("email address has the forbidden character %U", r))
		}
	}
	at := strings.LastIndexByte(s, '@')
	if strings.HasPrefix(s, "mailto:") {
		return addressError("email address begins with mailto:; leave that out")
	} else if at < 0 {
		return addressError("email address is not of the form ada@example.com")
	}
	if err := checkDomain(s[at+1:]); err != nil {
		return err
	}
	// The parser also accepts comments and folding. Only an addr-spec is written back
	// unchanged.
	local := s[:at] + "@example.com" // it does not know all domains of IDNA
	if parsed, err := mail.ParseAddress("<" + local + ">"); err != nil || parsed.String() != "<"+local+">" {
		return addressError("email address is not of the form ada@example.com")
	} else if strings.ContainsRune(s, ';') {
		return addressError("email address has a semicolon")
	}
	return nil
}

// forbidden reports whether r is invisible or breaks a line.
func forbidden(r rune) bool {
	return r != ' ' && r >= utf8.RuneSelf && (r == '\u2800' ||
		unicode.In(r, unicode.Cc, unicode.Cf, unicode.Z, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point)) ||
		r < ' ' || r == 0x7f
}

// checkDomain says what is wrong with the part after the @.
func checkDomain(domain string) error {
	if literal, ok := strings.CutPrefix(domain, "["); ok {
		literal, closed := strings.CutSuffix(literal, "]")
		text, is6 := strings.CutPrefix(literal, "IPv6:")
		if ip, err := netip.ParseAddr(text); closed && err == nil && ip.Is6() == is6 && ip.Zone() == "" {
			return nil
		}
		return addressError("email address has no IP address in its brackets")
	}
	for _, r := range domain {
		switch {
		case r >= utf8.RuneSelf, r == '-', r == '.', '0' <= r && r <= '9', 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z':
			continue
		case strings.ContainsRune("',:`", r):
			return addressError(fmt.Sprintf(`email address has "%c" after the @; did you mean a dot?`, r))
		case strings.ContainsRune("?#/;>", r):
			return addressError(fmt.Sprintf(`email address has "%c" after the domain; leave it out, with what follows`, r))
		}
		return addressError(fmt.Sprintf(`email address has "%c" after the @; a domain has letters, digits, hyphens and dots`, r))
	}
	if strings.HasSuffix(domain, ".") {
		return addressError("email address ends with a dot; leave it out")
	}
	if strings.HasPrefix(domain, ".") || strings.Contains(domain, "..") {
		return addressError("email address has too many dots after the @")
	}
	ascii, err := domains.ToASCII(domain)
	for label := range strings.SplitSeq(ascii, ".") {
		if strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") {
			return addressError("email address has a hyphen beside a dot or at an end of its domain")
		}
		if len(label) > maxLabel {
			return addressError(fmt.Sprintf("email address has a part of %d characters between dots after the @, at most %d are allowed", len(label), maxLabel))
		}
	}
	if err != nil {
		return addressError("email address has no domain after the @ that can exist")
	}
	return nil
}

const maxLabel = 63 // bytes in a label of a domain (RFC 1035)

// plain reports whether s is an address of the usual form: a dot-atom of ASCII, an @, and the name
// of a host in ASCII. It saves the parser, which costs more than the rest of a stage's work on an
// event.
func plain(s string) bool {
	local, domain, _ := strings.Cut(s, "@")
	return hostname(domain) && dotAtom(local)
}

// hostname reports whether s is a name in ASCII, lower or upper case, that is no encoded IDN.
func hostname(s string) bool {
	for label := range strings.SplitSeq(s, ".") {
		if n := len(label); n == 0 || n > maxLabel || label[0] == '-' || label[n-1] == '-' || n > 4 && strings.EqualFold(label[:4], "xn--") {
			return false
		}
		for i := range len(label) {
			c := label[i] | 0x20 // lower case
			if !('a' <= c && c <= 'z' || '0' <= label[i] && label[i] <= '9' || label[i] == '-') {
				return false
			}
		}
	}
	return true
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
