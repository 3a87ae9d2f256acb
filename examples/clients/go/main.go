// Sends one event, then a batch, with the official CloudEvents SDK.
//
//	IMPACT_URL=http://127.0.0.1:8080 IMPACT_KEY=imp_... go run .
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
)

const giveUp = 60 * time.Second

var retried = map[int]bool{408: true, 429: true, 502: true, 503: true, 504: true}

// visit makes an event. The id must be the event's own, made once where it happens: a resend has the same.
func visit(number int) event.Event {
	made := event.New()
	made.SetID(fmt.Sprintf("go-%d", number))
	made.SetSource("/clinic/examples")
	made.SetType("clinic.visit.v1")
	made.SetTime(time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC))
	made.SetSubject(fmt.Sprintf("person-%d", number))
	data := map[string]any{"minutes": 15, "client": "go"}
	if err := made.SetData(event.ApplicationJSON, data); err != nil {
		panic(err)
	}
	return made
}

// send posts until the service has answered for good; sending the same events again is safe.
func send(request func() (*http.Request, error)) (*http.Response, error) {
	deadline, delay := time.Now().Add(giveUp), 500*time.Millisecond
	for {
		made, err := request()
		if err != nil {
			return nil, err
		}
		made.Header.Set("Authorization", "Bearer "+os.Getenv("IMPACT_KEY"))
		answer, err := http.DefaultClient.Do(made)
		wait := delay
		if err == nil {
			if seconds, bad := strconv.Atoi(answer.Header.Get("Retry-After")); bad == nil {
				wait = time.Duration(seconds) * time.Second
			}
		}
		final := err == nil && !retried[answer.StatusCode]
		if final || time.Now().Add(wait).After(deadline) {
			return answer, err
		}
		if err == nil {
			answer.Body.Close()
		}
		time.Sleep(wait)
		delay = min(2*delay, 10*time.Second)
	}
}

func main() {
	ctx, url := context.Background(), os.Getenv("IMPACT_URL")+"/v1/events"
	requests := []func() (*http.Request, error){
		func() (*http.Request, error) { return cehttp.NewHTTPRequestFromEvent(ctx, url, visit(1)) },
		func() (*http.Request, error) {
			return cehttp.NewHTTPRequestFromEvents(ctx, url, []event.Event{visit(2), visit(3)})
		},
	}
	for _, request := range requests {
		answer, err := send(request)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		body, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		fmt.Println(answer.StatusCode, string(body))
		if answer.StatusCode != http.StatusAccepted {
			os.Exit(1)
		}
	}
}
