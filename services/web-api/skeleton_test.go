package webapi

import (
	"bytes"
	"compress/gzip"
	"io"
	"math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// hostile are texts that break a page which does not escape them as their place demands.
var hostile = []string{
	`"><script>alert(1)</script>`, `' onfocus='alert(1)`, "a+b&amp;c", "\x00\x01\x7f\u0085\u2028", "\xff\xfe", "\ufdd0\uffff",
	`</title></textarea><!--`, "javascript:alert(1)", "{{.}}", "700000003", "${1}`", "\r\n\t", "é😀", strings.Repeat("<", 70_000), "",
}

// TestSkeleton holds the page that is filled in to the template's, byte by byte, plain and
// compressed, with hostile text in every field.
func TestSkeleton(t *testing.T) {
	s := siteOn(t, &fake{}, Settings{})
	random := rand.New(rand.NewPCG(1, 2))
	text := func() string {
		v := hostile[random.IntN(len(hostile))]
		if random.IntN(4) == 0 {
			b := make([]byte, random.IntN(40))
			for i := range b {
				b[i] = byte(random.IntN(256))
			}
			v += string(b)
		}
		return v
	}
	into := map[bool]*pageBuffer{false: {}, true: {}} // used again, as the site does
	for n := range 400 {
		a := acceptedView{ID: someID, Email: text(), Lat: text(), Long: text(), Name: text(), Repeat: n%2 == 0}
		key := text()
		texts := []string{"x" + text(), text(), text(), "1" + text(), "2" + text(), "/from?at=" + url.QueryEscape(text())}
		s.newKey = func() string { return key }
		p := s.complete(mainPage{Accepted: &a, Typed: typed{Key: key}})
		p.Map.fill(n, -n, texts)
		k := s.mounts.home.accepted
		if a.Repeat {
			k = s.mounts.home.repeated
		}
		fill := func(zip bool) []byte {
			return k.fill(into[zip], zip, slices.Concat([]string{key, a.ID, a.Email, a.Lat, a.Long, a.Name, texts[0], strconv.Itoa(n), strconv.Itoa(-n)}, texts[1:])...)
		}
		same(t, s, p, fill(false), fill(true))
		if t.Failed() {
			t.Fatalf("email %.300q, place %.300q, %.300q", a.Email, a.Lat, a.Long)
		}
	}
}

// TestFillAccepted holds valid places to the template, and leaves to it what else there is.
func TestFillAccepted(t *testing.T) {
	s := siteOn(t, &fake{}, Settings{})
	for _, lat := range []string{"90", "-90", "32.080058", "-32.080058", "0", "-0.00001", "71.3"} {
		for _, long := range []string{"180", "-180", "34.864535", "-145.135465", "0", "190", "-74.0060"} {
			a := acceptedView{ID: someID, Email: hostile[0], Lat: lat, Long: long, Name: "Sant'Ágata, de’ (Goti)"}
			same(t, s, s.complete(mainPage{Accepted: &a}), s.fillAccepted(new(pageBuffer), s.mounts.home, &a, false), s.fillAccepted(new(pageBuffer), s.mounts.home, &a, true))
		}
	}
	for _, id := range hostile {
		if page := s.fillAccepted(new(pageBuffer), s.mounts.home, &acceptedView{ID: id + "/", Email: "a@b", Lat: "1", Long: "2"}, false); page != nil {
			t.Errorf("the ID %.40q was filled in; want the template to escape it", id)
		}
	}
	if page := s.fillAccepted(new(pageBuffer), s.mounts.home, &acceptedView{ID: someID, Lat: "91", Long: "x"}, false); page != nil {
		t.Error("a submission without a valid place was filled in")
	}
}

// same compares a filled page with the template's.
func same(t *testing.T, s *site, p mainPage, plain, zipped []byte) {
	t.Helper()
	var want bytes.Buffer
	if err := s.mounts.home.pages.ExecuteTemplate(&want, "main.html", p); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(plain, want.Bytes()) {
		t.Errorf("the filled page differs from the template's")
	}
	r, err := gzip.NewReader(bytes.NewReader(zipped))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want.Bytes()) {
		t.Errorf("the compressed page differs from the template's: %v", err)
	}
}

func BenchmarkAccepted(b *testing.B) {
	s := siteOn(b, &fake{}, Settings{})
	a := acceptedView{ID: someID, Email: "ada@example.com", Lat: "40.7128", Long: "-74.0060"}
	for to := new(pageBuffer); b.Loop(); {
		if page := s.fillAccepted(to, s.mounts.home, &a, true); page == nil {
			b.Fatal("not filled")
		}
	}
}
