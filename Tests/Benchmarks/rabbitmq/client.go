// What the benchmark does with Debian's golang-github-streadway-amqp-dev.
//
//	client URL QUEUE publish MESSAGES BYTES     publishes persistent messages, and waits until all are confirmed
//	client URL QUEUE consume MESSAGES PREFETCH  consumes and acknowledges them, 100 at once; prints the seconds
package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/streadway/amqp"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	queue := os.Args[2]
	messages, _ := strconv.Atoi(os.Args[4])
	number, _ := strconv.Atoi(os.Args[5])
	connection, err := amqp.Dial(os.Args[1])
	check(err)
	channel, err := connection.Channel()
	check(err)
	if os.Args[3] == "publish" {
		publish(channel, queue, messages, number)
	} else {
		consume(channel, queue, messages, number)
	}
	check(connection.Close())
}

func publish(channel *amqp.Channel, queue string, messages, size int) {
	check(channel.Confirm(false))
	// As many may be open as the channel of confirmations holds.
	const window = 1000
	confirmations := channel.NotifyPublish(make(chan amqp.Confirmation, window))
	body := append(append([]byte{'"'}, bytes.Repeat([]byte{'x'}, size-2)...), '"')
	confirmed := 0
	wait := func() {
		if confirmation := <-confirmations; !confirmation.Ack {
			check(fmt.Errorf("message %d was not confirmed", confirmation.DeliveryTag))
		}
		confirmed++
	}
	for published := 0; published < messages; published++ {
		if published-confirmed == window {
			wait()
		}
		check(channel.Publish("", queue, false, false, amqp.Publishing{DeliveryMode: amqp.Persistent, Body: body}))
	}
	for confirmed < messages {
		wait()
	}
}

func consume(channel *amqp.Channel, queue string, messages, prefetch int) {
	check(channel.Qos(prefetch, 0, false))
	begin := time.Now()
	deliveries, err := channel.Consume(queue, "", false, false, false, false, nil)
	check(err)
	for received := 1; received <= messages; received++ {
		delivery, isOpen := <-deliveries
		if !isOpen {
			check(fmt.Errorf("only %d messages came", received-1))
		}
		if received%100 == 0 || received == messages {
			check(delivery.Ack(true))
		}
	}
	// The answer comes when the broker has read all acknowledgements.
	_, err = channel.QueueInspect(queue)
	check(err)
	fmt.Println(time.Since(begin).Seconds())
}
