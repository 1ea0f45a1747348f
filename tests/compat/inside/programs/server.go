package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"sync"
	"time"
)

func main() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "hello "+r.URL.Path)
	}))
	answer, err := http.Get(server.URL + "/x")
	if err != nil {
		panic(err)
	}
	body, _ := io.ReadAll(answer.Body)
	fmt.Println(string(body))
	server.Close()
	var group sync.WaitGroup
	var lock sync.Mutex
	sum := 0
	for i := 0; i < 100; i++ {
		group.Add(1)
		go func(i int) {
			defer group.Done()
			time.Sleep(time.Millisecond)
			lock.Lock()
			sum += i
			lock.Unlock()
		}(i)
	}
	group.Wait()
	out, err := exec.Command("/bin/echo", "child").Output()
	fmt.Println(sum, string(out), err)
	fmt.Println(os.WriteFile("f", []byte("x"), 0o600), os.Rename("f", "g"), os.Mkdir("d", 0o700))
	host, _ := os.Hostname()
	fmt.Println(host)
}
