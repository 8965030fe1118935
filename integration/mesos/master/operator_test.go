package master_test

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"pacer/integration/mesos/master"
	"pacer/integration/mesos/probe"
)

// framework is a part of GET_FRAMEWORKS.
type framework struct {
	Info struct {
		ID         struct{ Value string } `json:"id"`
		Name, User string
		Checkpoint bool
	} `json:"framework_info"`
	Active, Connected, Recovered bool
}

// operate sends a call to the operator API and decodes the answer.
func operate(t *testing.T, m *master.Master, body string, answer any) int {
	t.Helper()
	response, text := probe.Post(t, m.URL()+"/api/v1", http.Header{"Content-Type": {"application/json"}}, []byte(body))
	if answer != nil {
		if response.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d %s", body, response.StatusCode, text)
		}
		if err := json.Unmarshal([]byte(text), answer); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	return response.StatusCode
}

// awaitFramework waits until GET_FRAMEWORKS shows a framework as wanted.
func awaitFramework(t *testing.T, m *master.Master, id string, wanted func(framework) bool) {
	t.Helper()
	var last framework
	for end := time.Now().Add(probe.Patience); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		var answer struct {
			Get struct{ Frameworks []framework } `json:"get_frameworks"`
		}
		operate(t, m, `{"type":"GET_FRAMEWORKS"}`, &answer)
		for _, f := range answer.Get.Frameworks {
			if f.Info.ID.Value == id {
				if last = f; wanted(f) {
					return
				}
			}
		}
	}
	t.Fatalf("framework %s is not as wanted: %+v", id, last)
}
