package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/go-zookeeper/zk"
)

// The service that apps of these tests run is this test binary itself, told so
// by roleVariable. It writes a diary, which tests read to know what happened
// inside the task and in which order.
const (
	roleVariable  = "E2E_SERVICE"
	diaryVariable = "E2E_DIARY"     // file to append to
	zkVariable    = "E2E_ZOOKEEPER" // host:port
	pathVariable  = "E2E_SERVERSET" // node whose members the service looks at
)

// entry is a line of the diary.
type entry struct {
	Event string    `json:"event"` // started, terminated, ended
	Task  string    `json:"task"`
	PID   int       `json:"pid"`
	Dir   string    `json:"dir"`
	Time  time.Time `json:"time"`
	// Members is what the ServerSet held when the event happened.
	Members []string `json:"members"`
}

func serve() error {
	diary, err := os.OpenFile(os.Getenv(diaryVariable), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	defer diary.Close()
	conn, events, err := zk.Connect([]string{os.Getenv(zkVariable)}, 10*time.Second, zk.WithLogger(silent{}))
	if err != nil {
		return err
	}
	defer conn.Close()
	for event := range events {
		if event.State == zk.StateHasSession {
			break
		}
	}
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	write := func(event string) error {
		return json.NewEncoder(diary).Encode(entry{
			Event: event, Task: os.Getenv("MESOS_TASK_ID"), PID: os.Getpid(), Dir: dir, Time: time.Now(),
			Members: endpoints(conn, os.Getenv(pathVariable)),
		})
	}
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	if err := write("started"); err != nil {
		return err
	}
	server := &http.Server{
		Addr:              net.JoinHostPort("127.0.0.1", os.Getenv("PORT")),
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, os.Getenv("MESOS_TASK_ID")) }),
		ReadHeaderTimeout: 10 * time.Second,
	}
	served := make(chan error, 1) // so that the goroutine ends when nobody reads
	go func() { served <- server.ListenAndServe() }()
	select {
	case err := <-served:
		return err
	case <-stop.Done():
	}
	if err := write("terminated"); err != nil {
		return err
	}
	finish, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := server.Shutdown(finish); err != nil {
		return err
	}
	return write("ended")
}

// endpoints lists the members of a ServerSet as host:port.
func endpoints(conn *zk.Conn, path string) []string {
	children, _, err := conn.Children(path)
	if err != nil {
		return nil // not there yet
	}
	list := []string{}
	for _, child := range children {
		data, _, err := conn.Get(path + "/" + child)
		if err != nil {
			continue // gone meanwhile
		}
		var member struct {
			ServiceEndpoint struct {
				Host string `json:"host"`
				Port int    `json:"port"`
			} `json:"serviceEndpoint"`
		}
		if err := json.Unmarshal(data, &member); err != nil {
			list = append(list, "unreadable "+child)
			continue
		}
		list = append(list, net.JoinHostPort(member.ServiceEndpoint.Host, fmt.Sprint(member.ServiceEndpoint.Port)))
	}
	return list
}

type silent struct{}

func (silent) Printf(string, ...any) {}

// readDiary returns what the service has written so far.
func readDiary(path string) (list []entry, err error) {
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(data)) {
		var e entry
		if json.Unmarshal([]byte(line), &e) == nil { // the last line may be under way
			list = append(list, e)
		}
	}
	return list, nil
}
