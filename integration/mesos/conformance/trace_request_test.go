package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	mesosexecutor "github.com/mesos/mesos-go/api/v1/lib/executor"
	mesosscheduler "github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"pacer/integration/mesos/wire"
)

// call is a request whose answer is not a stream.
type call struct {
	line   *line
	answer *exchangeItem // nil until it is there
}

// send makes a recorded request.
func (p *player) send(l *line) error {
	p.pause(l)
	request, err := p.request(l)
	if err != nil {
		return err
	}
	actor := l.actor()
	if l.Conn != "" {
		s := p.newStream(l.Who, actor, l.Conn)
		s.close, err = p.start(l, request, func(item exchangeItem) { p.streamItem(s, item) })
		return err
	}
	// Mesos handled the requests of one client in their order, because it took a
	// round trip between them.
	_ = p.awaitFor(time.Second, func() (bool, error) {
		return !slices.ContainsFunc(p.calls[actor], func(c *call) bool { return c.answer == nil }), nil
	})
	c := &call{line: l}
	p.mu.Lock()
	p.calls[actor] = append(p.calls[actor], c)
	p.mu.Unlock()
	_, err = p.start(l, request, func(item exchangeItem) {
		p.mu.Lock()
		defer p.mu.Unlock()
		c.answer = &item
		p.notifyLocked()
	})
	return err
}

// start begins an exchange as the party of the line and returns how to break it off.
func (p *player) start(l *line, request exchangeRequest, report func(exchangeItem)) (func(), error) {
	if l.Who == executor {
		probe := p.stage.probe(l.ID)
		if probe == nil {
			return nil, fmt.Errorf("executor %s is not running", l.ID)
		}
		return probe.exchange(request, report), nil
	}
	ctx, cancel := context.WithCancel(p.ctx)
	p.group.Go(func() { exchange(ctx, request, report) })
	return cancel, nil
}

// request makes a request from what was recorded.
func (p *player) request(l *line) (exchangeRequest, error) {
	path, err := p.bound.instantiate(l.Path)
	if err != nil {
		return exchangeRequest{}, err
	}
	r := exchangeRequest{
		Network: "tcp", Address: p.address(l), Method: l.Method, Path: fmt.Sprint(path),
		Headers: make(map[string]string), Stream: l.Conn != "",
	}
	if l.Who == executor && strings.Contains(l.Note, "domain socket") && !strings.Contains(l.Note, "over TCP") {
		r.Network, r.Address = "unix", p.stage.socket()
	}
	for key, value := range l.Headers {
		filled, err := p.bound.instantiate(value)
		if err != nil {
			return r, err
		}
		r.Headers[key] = fmt.Sprint(filled)
	}
	if r.Body, err = p.body(l); err != nil {
		return r, err
	}
	if len(r.Body) == 0 && l.HasText {
		text, err := p.bound.instantiate(l.Text)
		if err != nil {
			return r, err
		}
		r.Body = []byte(fmt.Sprint(text))
	}
	return r, nil
}

func (p *player) body(l *line) ([]byte, error) {
	if l.Body == nil {
		return nil, nil
	}
	complete, err := p.complete(l, l.Body)
	if err != nil {
		return nil, err
	}
	body, err := p.bound.instantiate(complete)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(body)
	if err != nil || !l.protobuf() {
		return text, err
	}
	var m wire.Message = &mesosscheduler.Call{}
	if l.Who == executor {
		m = &mesosexecutor.Call{}
	}
	if _, err := wire.JSON.Unmarshal(text, m); err != nil {
		return nil, err
	}
	return wire.Protobuf.Marshal(m)
}

// complete restores ExecutorInfos that the recording has shortened.
func (p *player) complete(l *line, value any) (any, error) {
	switch value := value.(type) {
	case map[string]any:
		made := make(map[string]any, len(value))
		for key, v := range value {
			if info, ok := v.(map[string]any); ok && key == "executor" {
				var err error
				if v, err = p.executorInfo(l, info); err != nil {
					return nil, err
				}
			} else {
				var err error
				if v, err = p.complete(l, v); err != nil {
					return nil, err
				}
			}
			made[key] = v
		}
		return made, nil
	case []any:
		made := make([]any, len(value))
		for i := range value {
			var err error
			if made[i], err = p.complete(l, value[i]); err != nil {
				return nil, err
			}
		}
		return made, nil
	}
	return value, nil
}

func (p *player) executorInfo(l *line, info map[string]any) (map[string]any, error) {
	if info["_elided"] == nil {
		if p.full == nil {
			p.full = info
		}
		return info, nil
	}
	if p.full == nil {
		return nil, fmt.Errorf("a shortened ExecutorInfo before any complete one")
	}
	made, _ := clone(p.full).(map[string]any)
	made["executor_id"] = info["executor_id"]
	id, _ := member(info, "executor_id", "value").(string)
	if change := p.scenario.executors[id]; change != nil {
		change(made)
	}
	if change := p.scenario.requests[l.Number]; change != nil {
		change(made)
	}
	return made, nil
}

func clone(value any) any {
	switch value := value.(type) {
	case map[string]any:
		made := make(map[string]any, len(value))
		for key, v := range value {
			made[key] = clone(v)
		}
		return made
	case []any:
		made := make([]any, len(value))
		for i := range value {
			made[i] = clone(value[i])
		}
		return made
	}
	return value
}

// address is whom a request is for.
func (p *player) address(l *line) string {
	agent := p.target
	if to, ok := p.scenario.targets[l.Number]; ok {
		agent = to
	}
	switch {
	case l.Who == executor:
		if address := p.stage.endpoint(l.ID); address != "" {
			return address
		}
		agent = "agent-1"
	case l.Who == scheduler && !strings.HasPrefix(agent, "master-"):
		agent = ""
	}
	if name := regexp.MustCompile(`\bat (?:the returned master|master-1 while)|^at the leader$`).FindString(l.Note); name != "" {
		agent = "master-1"
	}
	if seat := p.seat(agent); strings.HasPrefix(agent, "master-") {
		return seat.Address()
	}
	if node := p.nodes[agent]; node != nil {
		return strings.TrimPrefix(node.URL(), "http://")
	}
	return p.cluster.MasterAddress()
}
