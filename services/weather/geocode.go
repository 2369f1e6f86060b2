package weather

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/golang/geo/s2"

	"github.com/milepost/milepost/pkg/cache"
)

// Place is a city that the geocoder knows.
type Place struct {
	Name    string  `json:"name"`
	Region  string  `json:"region,omitempty"` // the largest division of the country
	Country string  `json:"country,omitempty"`
	Code    string  `json:"country_code,omitempty"` // ISO 3166-1
	Lat     float64 `json:"lat"`                    // degrees
	Long    float64 `json:"long"`
}

const (
	maxPlaces = 8
	maxFound  = 100 // places that the geocoder is asked for, to find the qualified ones
)

// Search looks up places, the best match first. What follows a comma names the country or the
// region: Paris, TX. The error of an unknown city wraps [cache.ErrMissing].
func (p *Provider) Search(ctx context.Context, city string, most int) ([]Place, error) {
	name, qualifiers, qualified := strings.Cut(city, ",")
	count := most
	if qualified {
		count = maxFound
	}
	var answer struct {
		Results []struct {
			Name    string
			Lat     *float64 `json:"latitude"`
			Long    *float64 `json:"longitude"`
			Region  string   `json:"admin1"`
			Country string
			Code    string `json:"country_code"`
		}
	}
	err := p.get(ctx, "geocoding", p.geocoding+"/v1/search", url.Values{
		"name": {strings.TrimSpace(name)}, "count": {strconv.Itoa(count)}, "language": {"en"}, "format": {"json"},
	}, &answer)
	if err != nil {
		return nil, fmt.Errorf("look the city up: %w", err)
	}
	var all []Place
	for _, r := range answer.Results {
		if r.Lat == nil || r.Long == nil {
			return nil, errors.New("look the city up: the geocoder's answer has no coordinates")
		}
		place := Place{cmp.Or(r.Name, city), r.Region, r.Country, r.Code, *r.Lat, *r.Long}
		if len(all) < most && place.within(qualifiers) {
			all = append(all, place)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("city %q: %w", city, cache.ErrMissing)
	}
	return all, nil
}

func (p Place) at() s2.LatLng { return s2.LatLngFromDegrees(p.Lat, p.Long) }

// within reports whether the place is in all of the countries and regions, separated by commas.
func (p Place) within(qualifiers string) bool {
	for q := range strings.SplitSeq(qualifiers, ",") {
		q = fold(strings.Trim(q, " ."))
		if q == "" || q == fold(p.Code) || alias[q] == p.Code && p.Code != "" || fold(states[p.Code+" "+strings.ToUpper(q)]) == fold(p.Region) && p.Region != "" {
			continue
		}
		if len(q) < 3 || !strings.HasPrefix(fold(p.Country), q) && !strings.HasPrefix(fold(p.Region), q) {
			return false
		}
	}
	return true
}

// alias are names of countries that are not the beginnings of their names.
var alias = map[string]string{"usa": "US", "u.s.a": "US", "u.s": "US", "america": "US", "uk": "GB", "u.k": "GB", "england": "GB", "uae": "AE", "holland": "NL"}

// states are the names of states and provinces by country and code, as addresses have them.
var states = func() map[string]string {
	all := map[string]string{}
	for country, list := range map[string]string{
		"US": "AL Alabama,AK Alaska,AZ Arizona,AR Arkansas,CA California,CO Colorado,CT Connecticut,DE Delaware,DC District of Columbia," +
			"FL Florida,GA Georgia,HI Hawaii,ID Idaho,IL Illinois,IN Indiana,IA Iowa,KS Kansas,KY Kentucky,LA Louisiana,ME Maine,MD Maryland," +
			"MA Massachusetts,MI Michigan,MN Minnesota,MS Mississippi,MO Missouri,MT Montana,NE Nebraska,NV Nevada,NH New Hampshire,NJ New Jersey," +
			"NM New Mexico,NY New York,NC North Carolina,ND North Dakota,OH Ohio,OK Oklahoma,OR Oregon,PA Pennsylvania,RI Rhode Island," +
			"SC South Carolina,SD South Dakota,TN Tennessee,TX Texas,UT Utah,VT Vermont,VA Virginia,WA Washington,WV West Virginia,WI Wisconsin,WY Wyoming",
		"CA": "AB Alberta,BC British Columbia,MB Manitoba,NB New Brunswick,NL Newfoundland and Labrador,NS Nova Scotia,ON Ontario," +
			"PE Prince Edward Island,QC Quebec,SK Saskatchewan",
		"AU": "NSW New South Wales,QLD Queensland,SA South Australia,TAS Tasmania,VIC Victoria,WA Western Australia",
	} {
		for entry := range strings.SplitSeq(list, ",") {
			code, name, _ := strings.Cut(entry, " ")
			all[country+" "+code] = name
		}
	}
	return all
}()

// Places returns the cities that match a name, the best match first.
func (w *Weather) Places(ctx context.Context, city string) ([]Place, error) {
	asked, err := normal(city)
	if err != nil {
		return nil, err
	}
	if w.provider.geocoding == "" {
		return nil, ErrOff
	}
	r, err := get(ctx, w.places, "", asked, func(ctx context.Context) ([]Place, error) { return w.provider.Search(ctx, asked, maxPlaces) })
	if errors.Is(err, cache.ErrMissing) {
		return []Place{}, nil
	}
	return slices.Clone(r.Value), err
}
