// Command standalone runs the whole pipeline in one process.
package main

import (
	"github.com/milepost/milepost/pkg/operate/statuspage"
	"github.com/milepost/milepost/pkg/program"
	"github.com/milepost/milepost/services/standalone"
)

func main() {
	program.Program[standalone.Config]{
		Name:         "standalone",
		Does:         "runs the whole pipeline in one process, on embedded stores unless REDIS_URL and MONGO_URL name others",
		Admin:        "127.0.0.1:9110",
		Run:          standalone.Run,
		StatusPage:   statuspage.New,
		StatusPageOn: true,
		Commands:     map[string]program.Command{"store": standalone.Store},
	}.Main()
}
