package agent

import (
	"context"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/mesos/mesos-go/api/v1/lib/executor"

	"pacer/executor/mesosapi"
)

const (
	// responseTimeout bounds a call, and a SUBSCRIBE until its answer.
	responseTimeout = 10 * time.Second
	// firstEvent is how long an open stream may stay without its first event.
	firstEvent = 15 * time.Second
	// maxSilence is how long a stream may be silent: agents send a HEARTBEAT
	// every 30 minutes, and two may be missing.
	maxSilence = 65 * time.Minute
	// probePause is the time after which, for want of other calls, a HEARTBEAT
	// asks whether the agent is there; probeSoon the same after a failed call.
	probePause = 30 * time.Second
	probeSoon  = time.Second
	// maxFlying is how many updates (each of another task) are in flight at
	// once. On loopback an update takes the agent about a millisecond.
	maxFlying = 16
)

// Keys of log fields.
const (
	keyError     = "error"
	keyFramework = "framework_id"
	keyExecutor  = "executor_id"
	keyAgent     = "agent_id"
	keyTask      = "task_id"
	keyState     = "state"
	keyUUID      = "uuid"
	keyReason    = "reason"
	keyAttempts  = "attempts"
	keyUpdates   = "updates"
	keyTasks     = "tasks"
	keyEvent     = "event"
	keySince     = "since"
)

// state is where the subscription stands; see the diagram in the package
// comment.
type state int

const (
	connecting state = iota
	subscribed
	ending
	detached
)

// session is one Run: the goroutine that runs it owns everything here.
type session struct {
	*Client
	handler Handler

	state  state
	ledger *ledger
	retry  *retry
	gate   gate
	doubt  suspicion
	// stream is the current attempt to subscribe or the open stream, nil
	// between two attempts.
	stream *stream
	// lastEvent is when something last came on a stream.
	lastEvent time.Time
	// shutdown is set when SHUTDOWN has been handed to the handler.
	shutdown bool
	// lost is the reason given to Handler.Lost.
	lost error

	messages      [][]byte
	messageFlying bool
	probeAt       time.Time
	probeFlying   bool

	// outcomes brings the results of calls made in goroutines of their own.
	outcomes chan func(now time.Time)
	flying   sync.WaitGroup

	subscribeOutage, callOutage outage
}

func newSession(c *Client, h Handler) *session {
	return &session{
		Client:   c,
		handler:  h,
		ledger:   newLedger(),
		retry:    newRetry(c.config),
		outcomes: make(chan func(time.Time)),
	}
}

// run is the loop that owns the session. Each round handles one thing that has
// happened and then does everything that is due.
func (s *session) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer s.flying.Wait()
	defer cancel()
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer s.closeStream()

	s.retry.start(time.Now())
	for {
		select {
		case <-ctx.Done():
			return s.lost
		case <-s.wake:
			s.collect()
		case in := <-s.incoming():
			s.receive(in, time.Now())
		case outcome := <-s.outcomes:
			outcome(time.Now())
		case <-timer.C:
		}
		now := time.Now()
		s.work(ctx, now)
		timer.Reset(max(0, s.nextWork(now).Sub(now)))
	}
}

// work does what is due at now.
func (s *session) work(ctx context.Context, now time.Time) {
	switch s.state {
	case connecting:
		if reason := s.retry.expired(now, nil); reason != nil {
			s.giveUp(reason)
		} else if s.stream == nil && !now.Before(s.retry.next) {
			s.subscribe(ctx)
		}
	case subscribed, ending:
		s.sendUpdates(ctx, now)
		s.sendMessage(ctx)
		s.probe(ctx, now)
	}
	if s.state == detached {
		s.sendUpdates(ctx, now)
	}
}

// nextWork is when work will have something to do if nothing happens before.
func (s *session) nextWork(now time.Time) time.Time {
	next := now.Add(time.Hour)
	sooner := func(t time.Time) {
		if t.Before(next) {
			next = t
		}
	}
	if s.state == connecting {
		sooner(s.retry.deadline())
		if s.stream == nil {
			sooner(s.retry.next)
		}
		return next
	}
	if s.state != detached && !s.probeFlying {
		sooner(s.probeAt)
	}
	if s.ledger.len() > 0 {
		// Where there is no room, the outcome of what is in flight makes some.
		switch room := s.gate.limit(now, maxFlying); {
		case room == 0:
			sooner(s.gate.until)
		case room > len(s.ledger.flying):
			sooner(s.ledger.due)
		}
	}
	return next
}

// collect takes over what callers have queued.
func (s *session) collect() {
	updates, messages := s.take()
	for _, status := range updates {
		if s.hopeless() {
			s.settled(1, s.lost)
			continue
		}
		s.ledger.add(status)
	}
	for _, data := range messages {
		if (s.state == subscribed || s.state == ending) && len(s.messages) < maxMessages {
			s.messages = append(s.messages, data)
		} else {
			s.log.Debug().Int("bytes", len(data)).Msg("message_dropped")
		}
	}
}

// goCall makes a call in a goroutine; done is run by the session's own.
func (s *session) goCall(ctx context.Context, call *executor.Call, done func(err error, now time.Time)) {
	call.FrameworkID.Value = s.config.FrameworkID
	call.ExecutorID.Value = s.config.ExecutorID
	s.flying.Go(func() {
		err := s.api.Call(ctx, call, nil)
		select {
		case s.outcomes <- func(now time.Time) { done(err, now) }:
		case <-ctx.Done():
		}
	})
}

func (s *session) sendUpdates(ctx context.Context, now time.Time) {
	room := s.gate.limit(now, maxFlying) - len(s.ledger.flying)
	if room <= 0 {
		return
	}
	for _, u := range s.ledger.sendable(now, room) {
		call := &executor.Call{Type: executor.Call_UPDATE, Update: &executor.Call_Update{Status: u.status}}
		s.goCall(ctx, call, func(err error, now time.Time) { s.updateDone(u, err, now) })
	}
}

// updateDone decides by the answer what becomes of an update.
func (s *session) updateDone(u *update, err error, now time.Time) {
	result := judge(err)
	before := s.ledger.len()
	dropped := s.ledger.settle(u, result, now)
	if !dropped {
		s.settled(before-s.ledger.len(), nil)
	}
	switch result {
	case accepted:
		s.callWorked(now)
		if s.state == subscribed && s.ledger.unheard(s.lastEvent, now) {
			s.suspect("no event after an update that was accepted twice", now)
		}
	case rejected:
		s.callWorked(now)
		if u.rejections == 1 || dropped {
			s.log.Error().Str(keyTask, u.task).Stringer(keyState, u.status.GetState()).
				Str(keyUUID, hex.EncodeToString(u.uuid[:])).Int(keyAttempts, u.rejections).Err(err).
				Msg(map[bool]string{false: "update_rejected", true: "update_given_up"}[dropped])
		}
		if dropped {
			s.settled(1, err)
		}
	case postponed:
		s.gate.failed(now)
		s.callFailed("UPDATE", err, now)
	}
}

// judge tells what an answer to an UPDATE means for it.
func judge(err error) outcome {
	switch code := mesosapi.StatusCode(err); {
	case err == nil:
		return accepted
	case code == http.StatusUnauthorized, code == http.StatusForbidden, // the subscription's fault
		code == http.StatusNotFound, // routes appear late when an agent starts
		code == http.StatusRequestTimeout, code == http.StatusTooManyRequests:
		return postponed
	case code >= 400 && code < 500, code == http.StatusNotImplemented:
		return rejected
	default:
		return postponed
	}
}

func (s *session) callWorked(now time.Time) {
	s.gate.passed()
	s.probeAt = now.Add(probePause)
	if n := s.callOutage.over(); n > 0 {
		s.log.Info().Int(keyAttempts, n).Msg("agent_takes_calls_again")
	}
}

// callFailed draws conclusions about the stream from a failed call.
func (s *session) callFailed(name string, err error, now time.Time) {
	if errors.Is(err, context.Canceled) {
		return
	}
	if s.callOutage.failed(now) {
		s.log.Warn().Str("call", name).Err(err).Int(keyAttempts, s.callOutage.count).Int(keyUpdates, s.ledger.len()).Msg("call_failed")
	}
	if s.state != subscribed && s.state != ending {
		return
	}
	code := mesosapi.StatusCode(err)
	switch {
	case mesosapi.Refused(err):
		s.suspect("nobody listens at the agent's address", now)
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		s.suspect("agent does not honour the subscription", now)
	case code == http.StatusServiceUnavailable && name == "HEARTBEAT":
		// Other calls are answered 503 for as long as a restarted agent waits for
		// its executors, HEARTBEAT only before it can know any.
		s.suspect("agent is starting", now)
	default:
		s.probeAt = now.Add(probeSoon)
	}
}

// suspect gives up a stream that still looks open.
func (s *session) suspect(reason string, now time.Time) {
	if s.doubt.act(now) {
		s.disconnect(errors.New(reason), now)
	}
}

func (s *session) sendMessage(ctx context.Context) {
	if s.messageFlying || len(s.messages) == 0 {
		return
	}
	call := &executor.Call{Type: executor.Call_MESSAGE, Message: &executor.Call_Message{Data: s.messages[0]}}
	s.messages = s.messages[1:]
	s.messageFlying = true
	s.goCall(ctx, call, func(err error, now time.Time) {
		s.messageFlying = false
		if err != nil {
			s.callFailed("MESSAGE", err, now)
		}
	})
}

// probe asks whether the agent is there.
func (s *session) probe(ctx context.Context, now time.Time) {
	if s.probeFlying || now.Before(s.probeAt) {
		return
	}
	s.probeFlying = true
	s.goCall(ctx, &executor.Call{Type: executor.Call_HEARTBEAT}, func(err error, now time.Time) {
		s.probeFlying = false
		s.probeAt = now.Add(probePause)
		// Agents before 1.8 answer 400: they do not know the call, but are there.
		if err != nil && mesosapi.StatusCode(err) != http.StatusBadRequest {
			s.callFailed("HEARTBEAT", err, now)
		}
	})
}

// receive handles one thing that came from the stream or ended it.
func (s *session) receive(in incoming, now time.Time) {
	if in.event == nil {
		s.streamEnded(in.err, now)
		return
	}
	s.lastEvent = now
	event := in.event
	switch {
	case event.Type == executor.Event_SUBSCRIBED && event.Subscribed != nil:
		s.subscribedEvent(event.Subscribed, now)
	case event.Type == executor.Event_LAUNCH && event.Launch != nil:
		s.ledger.launch(event.Launch.Task)
		s.handler.Launch(event.Launch.Task)
	case event.Type == executor.Event_LAUNCH_GROUP && event.LaunchGroup != nil:
		tasks := event.LaunchGroup.TaskGroup.Tasks
		for _, task := range tasks {
			s.ledger.launch(task)
		}
		s.handler.LaunchGroup(tasks)
	case event.Type == executor.Event_KILL && event.Kill != nil:
		s.handler.Kill(event.Kill.TaskID.Value, event.Kill.KillPolicy)
	case event.Type == executor.Event_ACKNOWLEDGED && event.Acknowledged != nil:
		before := s.ledger.len()
		s.ledger.acknowledge(event.Acknowledged.TaskID.Value, event.Acknowledged.UUID)
		s.settled(before-s.ledger.len(), nil)
		s.doubt.unfounded()
	case event.Type == executor.Event_MESSAGE && event.Message != nil:
		s.handler.Message(event.Message.Data)
	case event.Type == executor.Event_SHUTDOWN:
		s.shutdownEvent()
	case event.Type == executor.Event_HEARTBEAT:
	case event.Type == executor.Event_ERROR && event.Error != nil:
		s.log.Error().Str(keyError, event.Error.Message).Msg("agent_reports_error")
	default:
		s.log.Debug().Int32(keyEvent, int32(event.Type)).Msg("event_ignored")
	}
}

func (s *session) subscribedEvent(event *executor.Event_Subscribed, now time.Time) {
	again := s.retry.ever
	s.retry.connected()
	s.gate.passed()
	s.callOutage.over()
	s.probeAt = now.Add(probePause)
	s.ledger.subscribed(s.stream.included, now)
	s.stream.subscribed = true
	if s.state == connecting {
		s.state = subscribed
		if s.shutdown {
			s.state = ending
		}
	}
	s.log.Info().Str(keyFramework, s.config.FrameworkID).Str(keyExecutor, s.config.ExecutorID).Str(keyAgent, s.config.AgentID).
		Int(keyAttempts, s.subscribeOutage.over()+1).Int(keyTasks, len(s.ledger.tasks)).
		Int(keyUpdates, s.ledger.len()).Bool("again", again).Msg("subscribed")
	s.handler.Subscribed(Subscription{
		Executor:    event.ExecutorInfo,
		Framework:   event.FrameworkInfo,
		Agent:       event.AgentInfo,
		ContainerID: event.GetContainerID().GetValue(),
		Again:       again,
	})
}

func (s *session) shutdownEvent() {
	s.state = ending
	if s.shutdown {
		return
	}
	s.shutdown = true
	s.log.Info().Msg("shutdown_requested")
	s.handler.Shutdown()
}

// streamEnded handles the end that came from the other side, or a failed
// attempt.
func (s *session) streamEnded(err error, now time.Time) {
	switch {
	case s.state == ending && !s.stream.subscribed:
		// SHUTDOWN was the answer to SUBSCRIBE: the agent wants no more of it.
		s.closeStream()
		s.detach(err)
	case s.state == connecting:
		s.closeStream()
		if s.subscribeOutage.failed(now) {
			s.log.Warn().Err(err).Int(keyAttempts, s.subscribeOutage.count).Time(keySince, s.retry.since).Msg("subscribe_failed")
		}
		if reason := s.retry.failed(err, now, rand.Float64()); reason != nil {
			s.giveUp(reason)
		}
	default:
		s.disconnect(err, now)
	}
}

// disconnect leaves the current stream and starts to subscribe again.
func (s *session) disconnect(err error, now time.Time) {
	s.closeStream()
	s.api.Close() // connections to a dead agent would cost a failed call each
	s.messages = nil
	s.retry.disconnected(now, rand.Float64())
	s.state = connecting
	s.log.Warn().Err(err).Int(keyTasks, len(s.ledger.tasks)).Int(keyUpdates, s.ledger.len()).Msg("disconnected")
	if !s.shutdown {
		s.handler.Disconnected(now)
	}
}

// giveUp ends all attempts to subscribe.
func (s *session) giveUp(reason error) {
	s.closeStream()
	s.detach(reason)
	if s.shutdown {
		return // the tasks are being killed already
	}
	s.lost = reason
	s.log.Error().Err(reason).Int(keyTasks, len(s.ledger.tasks)).Int(keyUpdates, s.ledger.len()).Msg("agent_lost")
	if s.hopeless() {
		s.settled(s.ledger.clear(), reason)
	}
	s.handler.Lost(reason)
}

// hopeless tells that the agent will not take updates.
func (s *session) hopeless() bool {
	return errors.Is(s.lost, ErrUnauthorized) || errors.Is(s.lost, ErrUnknownToAgent)
}

func (s *session) detach(reason error) {
	s.state = detached
	s.messages = nil
	s.gate.passed()
	s.ledger.detach()
	s.log.Info().Str(keyReason, reason.Error()).Int(keyUpdates, s.ledger.len()).Msg("detached")
}
