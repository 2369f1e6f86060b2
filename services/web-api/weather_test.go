package webapi

import (
	"net/http"
	"testing"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/services/internal/browsertest"
)

// testWeather: a submission's card has the weather at its place or, while nobody knows it, why it
// has not.
func testWeather(t *testing.T, b *browsertest.Browser) {
	weather := startOther(t)
	base, _ := serve(t, openBroker(t, stagetest.Embedded(t).Addr), Settings{}, Reads{WeatherURL: config.HTTPURL(weather.URL)})
	tab := b.Open(t)
	tab.Go(base)
	fillIn(tab)
	tab.Click(submitButton)
	tab.Until(`document.querySelector(".card .weather")?.innerText.startsWith("8.9 °C there, at ")`)
	tab.Accessible("weather")
	tab.Picture("weather")
	weather.do(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	fillIn(tab)
	tab.Click(submitButton)
	tab.Until(`document.querySelector(".card .weather")?.innerText === "The weather there is not available: the provider of the weather service does not answer."`)
	tab.NoOverflow("no weather")
}
