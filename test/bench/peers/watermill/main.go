// Watermill is the pipeline of Milepost built on Watermill's Redis Streams, for the benchmark to
// compare with: its router, publisher and subscriber as its documentation shows them
// (https://watermill.io/docs/, watermill-redisstream's _examples), the same four services, the same
// store, the same log line. It is built by `make bench` and is part of no image.
//
//	watermill web-api|distance|db|email
//
// The environment: LISTEN, REDIS_HOST, REDIS_PORT, MONGO_URL, MONGO_DATABASE, SENT_EMAILS.
//
// What it does not do, and Milepost does: a message is acked after its output was published, so a
// process killed in between publishes it twice; the log line is written before the ack and has no
// journal, so it may come twice; there is no dead letter, no limit, no idempotency key.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/labstack/echo/v4"
	"github.com/redis/go-redis/v9"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/geodesy"
)

// The office of the article, in degrees.
const officeLat, officeLong = 32.080058, 34.864535

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: watermill web-api|distance|db|email")
		os.Exit(2)
	}
	if err := run(ctx, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "watermill:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, service string) error {
	rdb := redis.NewClient(&redis.Options{Addr: os.Getenv("REDIS_HOST") + ":" + os.Getenv("REDIS_PORT")})
	defer rdb.Close()
	logger := watermill.NopLogger{}
	pub, err := redisstream.NewPublisher(redisstream.PublisherConfig{Client: rdb}, logger)
	if err != nil {
		return err
	}
	if service == "web-api" {
		return serve(ctx, pub)
	}
	sub, err := redisstream.NewSubscriber(redisstream.SubscriberConfig{Client: rdb, ConsumerGroup: service}, logger)
	if err != nil {
		return err
	}
	router, err := message.NewRouter(message.RouterConfig{}, logger)
	if err != nil {
		return err
	}
	router.AddMiddleware(middleware.Retry{MaxRetries: 3, InitialInterval: 100 * time.Millisecond}.Middleware, middleware.Recoverer)
	switch service {
	case "distance":
		router.AddHandler(service, event.RawInput, sub, event.CalculatedDistance, pub, distance)
	case "db":
		users, err := collection()
		if err != nil {
			return err
		}
		router.AddHandler(service, event.CalculatedDistance, sub, event.UserEmail, pub, store(users))
	case "email":
		users, err := collection()
		if err != nil {
			return err
		}
		log, err := os.OpenFile(os.Getenv("SENT_EMAILS"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		defer log.Close()
		router.AddConsumerHandler(service, event.UserEmail, sub, send(users, log))
	default:
		return fmt.Errorf("no service %q", service)
	}
	return router.Run(ctx)
}

func collection() (*mongo.Collection, error) {
	c, err := mongo.Connect(options.Client().ApplyURI(os.Getenv("MONGO_URL")))
	if err != nil {
		return nil, err
	}
	return c.Database(os.Getenv("MONGO_DATABASE")).Collection("users"), nil
}

// page is a page of the article's size: the form again, and that it was accepted.
var page = template.Must(template.New("page").Parse(`<!doctype html><html lang="en"><title>How far?</title>
<h1>How far are you from Velocity?</h1><p>Thank you, {{.Email}}. You will get an email.</p>
<form method="post" action="/distance"><label>Email <input name="email"></label>
<label>Latitude <input name="lat"></label><label>Longitude <input name="long"></label><button>Submit</button></form></html>`))

// serve answers POST /distance, a form with the page and JSON with the ID, once the stream has it.
func serve(ctx context.Context, pub message.Publisher) error {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.GET("/healthz", func(c echo.Context) error { return c.String(http.StatusOK, "ok\n") })
	e.POST("/distance", func(c echo.Context) error {
		var s event.Submission
		isJSON := c.Request().Header.Get("Content-Type") == echo.MIMEApplicationJSON
		if isJSON {
			if err := json.NewDecoder(c.Request().Body).Decode(&s); err != nil {
				return echo.NewHTTPError(http.StatusBadRequest, err.Error())
			}
		} else {
			s = event.Submission{Email: event.Address(c.FormValue("email")), Lat: event.Decimal(c.FormValue("lat")), Long: event.Decimal(c.FormValue("long"))}
		}
		if err := s.Validate(); err != nil {
			return echo.NewHTTPError(http.StatusUnprocessableEntity, err.Error())
		}
		payload, err := json.Marshal(s)
		if err != nil {
			return err
		}
		id := watermill.NewUUID()
		if err := pub.Publish(event.RawInput, message.NewMessage(id, payload)); err != nil {
			return err
		}
		if isJSON {
			return c.JSON(http.StatusCreated, map[string]string{"id": id})
		}
		c.Response().Header().Set("Content-Type", "text/html; charset=utf-8")
		c.Response().WriteHeader(http.StatusCreated)
		return page.Execute(c.Response(), s)
	})
	stop := context.AfterFunc(ctx, func() { _ = e.Shutdown(context.Background()) })
	defer stop()
	if err := e.Start(os.Getenv("LISTEN")); err != http.ErrServerClosed {
		return err
	}
	return nil
}

// distance computes the miles to the office.
func distance(m *message.Message) ([]*message.Message, error) {
	var s event.Submission
	if err := json.Unmarshal(m.Payload, &s); err != nil {
		return nil, err
	}
	place, err := geodesy.Parse(string(s.Lat), string(s.Long))
	if err != nil {
		return nil, err
	}
	office, err := geodesy.Degrees(officeLat, officeLong)
	if err != nil {
		return nil, err
	}
	miles, err := geodesy.Miles(place, office)
	if err != nil {
		return nil, err
	}
	payload, err := json.Marshal(event.Result{Email: s.Email, Miles: miles, Lat: s.Lat, Long: s.Long})
	return []*message.Message{message.NewMessage(m.UUID, payload)}, err
}

// store inserts the document under the message's UUID; one that is there already is done.
func store(users *mongo.Collection) message.HandlerFunc {
	return func(m *message.Message) ([]*message.Message, error) {
		var r event.Result
		if err := json.Unmarshal(m.Payload, &r); err != nil {
			return nil, err
		}
		_, err := users.InsertOne(m.Context(), bson.D{{Key: "_id", Value: m.UUID}, {Key: "email", Value: string(r.Email)},
			{Key: "distance_from_velocity", Value: r.Miles}, {Key: "lat", Value: r.Lat}, {Key: "long", Value: r.Long}})
		if err != nil && !mongo.IsDuplicateKeyError(err) {
			return nil, err
		}
		return []*message.Message{message.NewMessage(m.UUID, []byte(r.Email))}, nil
	}
}

// send finds the document and writes the line.
func send(users *mongo.Collection, log *os.File) message.NoPublishHandlerFunc {
	return func(m *message.Message) error {
		var r struct {
			Miles float64 `bson:"distance_from_velocity"`
		}
		if err := users.FindOne(m.Context(), bson.D{{Key: "_id", Value: m.UUID}}).Decode(&r); err != nil {
			return err
		}
		now := time.Now()
		_, err := fmt.Fprintf(log, "%s,%03d root INFO Email sent to: %s; Message: You are %s miles from Velocity.\n",
			now.Format("15:04:05"), now.Nanosecond()/1e6, m.Payload, strconv.FormatFloat(r.Miles, 'g', -1, 64))
		return err
	}
}
