// Publishes one event, then prints results and dead subscriptions until it is stopped. No test runs this file; run by hand
// on 2026-11-26 with amqp091-go 1.5:  AMQP_URL=amqp://localhost go run client.go shop < subscription.json
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func must[T any](value T, err error) T {
	if err != nil {
		log.Panic(err)
	}
	return value
}
func take(deliveries <-chan amqp.Delivery) {
	for delivery := range deliveries {
		it := map[string]any{}
		must(0, json.Unmarshal(delivery.Body, &it))
		if it["change"] == "gone" { // DELETE … WHERE endpoint = ? AND updated_at < ?
			fmt.Println("gone", it["recipient"].(map[string]any)["endpoint"], it["sent_at"])
		} else if it["outcome"] != nil {
			fmt.Println("result", it["event_id"], it["outcome"], it["reason"])
		}
		delivery.Ack(false) // after the work is done
	}
}
func run(app string, body []byte, confirmed *bool) {
	defer func() { log.Print("connecting again: ", recover()) }()
	connection := must(amqp.Dial(os.Getenv("AMQP_URL")))
	defer connection.Close()
	channel := must(connection.Channel())
	channel.Confirm(false) // a call that fails closes the channel, so that the next one fails, too
	channel.Qos(100, 0, false)
	results := must(channel.QueueDeclare(app+".results", true, false, false, false, amqp.Table{"x-queue-type": "quorum"})).Name
	channel.QueueBind(results, "delivery."+app+".#", "webpush.results", false, nil)
	go take(must(channel.Consume("webpush.dead-subscriptions", "", false, false, false, false, nil)))
	returned := channel.NotifyReturn(make(chan amqp.Return, 1))
	if message := (amqp.Publishing{DeliveryMode: amqp.Persistent, Body: body}); !*confirmed {
		confirm := must(channel.PublishWithDeferredConfirm("webpush.events", app+".default", true, false, message))
		if *confirmed = confirm.Wait() && len(returned) == 0; !*confirmed {
			log.Panic("the broker did not take the event")
		}
	}
	take(must(channel.Consume(results, "", false, false, false, false, nil))) // until the channel is closed
}
func main() {
	// A []byte is written as base64, a RawMessage is not. A time.Time has its offset; one that is not set is the year 1.
	body := must(json.Marshal(map[string]any{"id": "go-1", "app": os.Args[1], "payload": "Grüße",
		"subscription": json.RawMessage(must(io.ReadAll(os.Stdin))), "expires_at": time.Now().Add(time.Hour)}))
	for confirmed := false; ; time.Sleep(time.Second) {
		run(os.Args[1], body, &confirmed)
	}
}
