package fanout_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/milepost/milepost/pkg/fanout"
)

func ExampleDo() {
	answers := fanout.Do(context.Background(), 0,
		fanout.Call[string]{Name: "users", Timeout: time.Second, Do: func(context.Context) (string, error) { return "ada", nil }},
		fanout.Call[string]{Name: "weather", Timeout: time.Second, Do: func(context.Context) (string, error) { return "", errors.New("off") }},
	)
	for _, a := range answers {
		fmt.Printf("%s: %q, %v\n", a.Name, a.Value, a.Err)
	}
	// Output:
	// users: "ada", <nil>
	// weather: "", off
}
