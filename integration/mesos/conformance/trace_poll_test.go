package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// poll is a SUBSCRIBE that is repeated until it succeeds or is refused for good.
type poll struct {
	outcomes []*exchangeItem // that differ from the one before
	streams  []*stream       // of the outcomes
	over     bool            // no more of them
}

// startPoll repeats a SUBSCRIBE until an answer is neither missing nor 503.
func (p *player) startPoll(l *line, body any, address string) error {
	return p.startPollWith(l, body, address, "application/json")
}

func (p *player) startPollWith(l *line, body any, address, accept string) error {
	request := exchangeRequest{
		Network: "tcp", Address: address, Method: "POST", Path: "/api/v1/" + l.Who, Stream: true,
		Headers: map[string]string{"Accept": accept, "Content-Type": "application/json"},
	}
	made, err := p.bound.instantiate(body)
	if err != nil {
		return err
	}
	if request.Body, err = json.Marshal(made); err != nil {
		return err
	}
	po := &poll{}
	p.mu.Lock()
	p.polls[l.actor()] = po
	p.mu.Unlock()
	p.group.Go(func() {
		p.pollLoop(p.ctx, l, po, request)
		p.mu.Lock()
		defer p.mu.Unlock()
		po.over = true
	})
	return nil
}

func (p *player) pollLoop(ctx context.Context, l *line, po *poll, request exchangeRequest) {
	for previous := ""; ctx.Err() == nil; {
		s := &stream{who: l.Who, actor: l.actor(), label: "(repeated SUBSCRIBE)"}
		answered := make(chan exchangeItem, 1)
		cancel, err := p.start(l, request, func(item exchangeItem) {
			if item.Status != 0 || item.Failure != "" {
				answered <- item
			}
			p.streamItem(s, item)
		})
		if err != nil {
			return
		}
		s.close = cancel
		var item exchangeItem
		select {
		case item = <-answered:
		case <-ctx.Done():
			cancel()
			return
		}
		if outcome := summary(&item); outcome != previous {
			previous = outcome
			p.mu.Lock()
			po.outcomes = append(po.outcomes, &item)
			po.streams = append(po.streams, s)
			p.notifyLocked()
			p.mu.Unlock()
		}
		if item.Failure == "" && !p.tryAgain(&item) {
			return
		}
		timer := time.NewTimer(2 * time.Millisecond)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// tryAgain tells whether an answer is one of a server that is not ready.
func (p *player) tryAgain(answer *exchangeItem) bool {
	return answer.Status == http.StatusServiceUnavailable || answer.Status == http.StatusNotFound ||
		answer.Status == http.StatusTemporaryRedirect
}

// awaitPoll waits for the next outcome of a repeated SUBSCRIBE.
func (p *player) awaitPoll(l *line) error {
	p.mu.Lock()
	po := p.polls[l.actor()]
	over := po == nil || po.over && len(po.outcomes) == 0
	p.mu.Unlock()
	if over && p.zookeeper != nil && l.Who == scheduler {
		if err := p.pollMaster(l); err != nil {
			return err
		}
		p.mu.Lock()
		po = p.polls[l.actor()]
		p.mu.Unlock()
	}
	if po == nil {
		return fmt.Errorf("nothing has opened %s of %s", l.Conn, l.actor())
	}
	if p.postponed != nil && !strings.HasSuffix(l.Note, "connection refused") {
		if err := p.startNow(); err != nil {
			return err
		}
	}
	err := p.await(l, func() (bool, error) {
		for len(po.outcomes) > 0 {
			done, err := p.takeOutcome(l, po)
			if done || err != nil {
				return done, err
			}
		}
		return false, nil
	})
	p.follow(l)
	return err
}

// takeOutcome compares the next outcome. States that pass may be there or not.
func (p *player) takeOutcome(l *line, po *poll) (bool, error) {
	answer := po.outcomes[0]
	d := p.comparePoll(l, answer)
	if d != nil && p.passes(l) {
		p.note(passingTolerance)
		return true, nil
	}
	if d != nil && (answer.Failure != "" || p.tryAgain(answer)) {
		p.note(passingTolerance)
		po.outcomes, po.streams = po.outcomes[1:], po.streams[1:]
		return false, nil
	}
	if d != nil {
		return false, d
	}
	p.streams[l.actor()+" "+l.Conn] = po.streams[0]
	po.outcomes, po.streams = po.outcomes[1:], po.streams[1:]
	return true, nil
}

func (p *player) comparePoll(l *line, answer *exchangeItem) *difference {
	if strings.HasSuffix(l.Note, "connection refused") {
		if answer.Failure != "connection refused" {
			return &difference{path: "failure", want: "connection refused", got: summary(answer)}
		}
		return nil
	}
	return p.compareAnswer(l, answer)
}

// passes tells whether the line shows a state that lasts some milliseconds.
func (p *player) passes(l *line) bool {
	return strings.HasSuffix(l.Note, "connection refused") || l.Status == http.StatusServiceUnavailable || l.Status == http.StatusNotFound
}

// pollExecutor makes an executor come back to a restarted agent. What it lists is in
// the table of the scenario, because the recording does not show it.
func pollExecutor(p *player, l *line, groups []string) error {
	id := groups[1]
	known := p.scenario.unacknowledged[l.Number]
	subscribe := map[string]any{}
	var framework any
	var tasks, updates []any
	for _, other := range p.lines[:l.Number] {
		if !other.Sent || other.Body == nil {
			continue
		}
		if other.Who == executor && other.ID == id && other.callType() == "SUBSCRIBE" {
			framework = member(other.Body, "framework_id")
		}
		for _, task := range taskInfos(other.Body) {
			if contains(known.tasks, member(task, "task_id", "value")) {
				tasks = append(tasks, task)
			}
		}
		if other.callType() == "UPDATE" && contains(known.updates, member(other.Body, "update", "status", "uuid")) {
			updates = append(updates, member(other.Body, "update"))
		}
	}
	if len(tasks) != len(known.tasks) || len(updates) != len(known.updates) {
		return fmt.Errorf("the recording has %d of %d tasks and %d of %d updates of the table",
			len(tasks), len(known.tasks), len(updates), len(known.updates))
	}
	if len(tasks) > 0 {
		subscribe["unacknowledged_tasks"] = tasks
	}
	if len(updates) > 0 {
		subscribe["unacknowledged_updates"] = updates
	}
	body, err := p.complete(l, map[string]any{
		"type": "SUBSCRIBE", "subscribe": subscribe, "framework_id": framework,
		"executor_id": map[string]any{"value": id},
	})
	if err != nil {
		return err
	}
	poll := *l
	poll.Who, poll.ID = executor, id
	return p.startPoll(&poll, body, p.stage.endpoint(id))
}

// taskInfos are the tasks that a call launches.
func taskInfos(body any) []any {
	var tasks []any
	operations, _ := member(body, "accept", "operations").([]any)
	for _, operation := range operations {
		infos, _ := member(operation, "launch", "task_infos").([]any)
		group, _ := member(operation, "launch_group", "task_group", "tasks").([]any)
		tasks = append(append(tasks, infos...), group...)
	}
	return tasks
}

func contains(list []string, value any) bool {
	for _, one := range list {
		if one == value {
			return true
		}
	}
	return false
}

// subscription is the first scheduler's SUBSCRIBE with an id, "" for none. Where
// schedulers repeat it the recording shows only the answers.
func (p *player) subscription(id string) any {
	for _, other := range p.lines {
		if other.Sent && other.callType() == "SUBSCRIBE" && other.Who == scheduler {
			body, _ := clone(other.Body).(map[string]any)
			if id != "" {
				body["framework_id"] = map[string]any{"value": id}
				info, _ := member(body, "subscribe", "framework_info").(map[string]any)
				info["id"] = map[string]any{"value": id}
			}
			return body
		}
	}
	return nil
}
