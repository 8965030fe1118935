package executor_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/executor/payload"
	"pacer/integration/mesos/probe"
)

// files asks the agent's files endpoints, as Mesos' web pages do.
func (c *cluster) files(endpoint string, parameters url.Values) []byte {
	c.t.Helper()
	client := http.Client{Timeout: probe.Patience, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(c.mesos.Node(0).URL() + "/files/" + endpoint + "?" + parameters.Encode())
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	if response.StatusCode == http.StatusNotFound {
		return nil
	}
	if response.StatusCode != http.StatusOK {
		c.t.Fatalf("%s %s: %s: %s", endpoint, parameters.Get("path"), response.Status, body)
	}
	return body
}

// readFile reads a part of a file through the agent; "" where it is not there.
func (c *cluster) readFile(path string, offset, length int) string {
	c.t.Helper()
	body := c.files("read", url.Values{"path": {path}, "offset": {strconv.Itoa(offset)}, "length": {strconv.Itoa(length)}})
	if body == nil {
		return ""
	}
	var answer struct{ Data string }
	if err := json.Unmarshal(body, &answer); err != nil {
		c.t.Fatalf("%v: %.100s", err, body)
	}
	return answer.Data
}

// TestLogs_CanBeFollowedThroughTheAgentWhileTheyRotate follows a task's stdout
// line by line. All lines are equally long, so that a line's number tells where
// in which file it is, whatever that file is called by now.
func TestLogs_CanBeFollowedThroughTheAgentWhileTheyRotate(t *testing.T) {
	const (
		line    = 16
		perFile = 1 << 20 / line
		chunks  = 6
		lines   = chunks * perFile
		end     = "no newline at the end"
	)
	c := newCluster(t, map[string]string{"PACER_LOG_MIB": "1", "PACER_LOG_FILES": "20"})
	shell := fmt.Sprintf(`for chunk in $(seq 0 %d); do awk "BEGIN { for (i = $chunk * %d; i < ($chunk + 1) * %d; i++) printf \"%%015d\\n\", i }"; sleep 0.02; done; printf '%s'`,
		chunks-1, perFile, perFile, end)
	c.Accept(0, c.offers, probe.Launch(c.task("talks", &payload.Task{Command: &payload.Command{Shell: shell}}, nil)))
	c.want(mesos.TASK_STARTING)
	c.want(mesos.TASK_RUNNING)
	stdout := filepath.Join(c.sandbox(), "tasks/talks/stdout")
	name := func(i int) string {
		if i == 0 {
			return stdout
		}
		return stdout + "." + strconv.Itoa(i)
	}
	next, older := 0, 0
	for limit := time.Now().Add(probe.Patience); next < lines; {
		found := false
		for i := 0; i <= chunks && !found; i++ {
			data := c.readFile(name(i), next%perFile*line, 1000*line)
			for ; len(data) >= line && data[:line] == fmt.Sprintf("%015d\n", next); data = data[line:] {
				next++
				if found = true; next%perFile == 0 {
					break // the file is full
				}
			}
			if found && i > 0 {
				older++
			}
		}
		if !found && time.Now().After(limit) {
			t.Fatalf("line %d is nowhere", next)
		}
	}
	t.Logf("%d of the reads were of files that had been rotated away", older)
	// The last partial line is there when the status is.
	c.want(mesos.TASK_FINISHED)
	if got := c.readFile(stdout, lines%perFile*line, 100); !strings.HasSuffix(got, end) {
		if got = string(c.files("download", url.Values{"path": {stdout}})); !strings.HasSuffix(got, end) {
			t.Errorf("stdout ends with %q", got[max(0, len(got)-50):])
		}
	}
	browsed := string(c.files("browse", url.Values{"path": {filepath.Dir(stdout)}}))
	for i := range chunks {
		if !strings.Contains(browsed, filepath.Base(name(i))+`"`) {
			t.Errorf("no %s in %s", filepath.Base(name(i)), browsed)
		}
	}
}
