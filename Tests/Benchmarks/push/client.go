// The same work with Go's net/http: POSTs on a number of persistent connections.
//
//	client URL CONNECTIONS REQUESTS
package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

func main() {
	url := os.Args[1]
	connections, _ := strconv.Atoi(os.Args[2])
	requests, _ := strconv.ParseInt(os.Args[3], 10, 64)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections}}
	content := bytes.Repeat([]byte{'x'}, 98)
	body := append(append([]byte{'"'}, content...), '"')
	var next int64
	var group sync.WaitGroup
	begin := time.Now()
	for i := 0; i < connections; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			for n := atomic.AddInt64(&next, 1); n <= requests; n = atomic.AddInt64(&next, 1) {
				request, _ := http.NewRequest("POST", url, bytes.NewReader(body))
				request.Header.Set("Content-Type", "application/json")
				request.Header.Set("Emq-Task-Id", "AaH9bIMPcABjBgT8D9FTqA")
				request.Header.Set("Emq-Queue", "q")
				request.Header.Set("Emq-Attempt", "1")
				response, err := client.Do(request)
				if err != nil || response.StatusCode/100 != 2 {
					fmt.Fprintln(os.Stderr, "failed:", err, response)
					os.Exit(1)
				}
				io.Copy(io.Discard, response.Body)
				response.Body.Close()
			}
		}()
	}
	group.Wait()
	fmt.Println(time.Since(begin).Seconds())
}
