package master

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"pacer/executor/mesosapi"
)

var (
	errLeaderChanged = errors.New("another master leads now")
	errStreamClosed  = errors.New("master closed the stream")
)

// subscription is a stream that SUBSCRIBED has come on.
type subscription struct {
	url       string // base URL of the master
	address   string // what to dial for it, or ""
	api       *mesosapi.Client
	framework mesos.FrameworkID
	header    http.Header // Mesos-Stream-Id
	end       func(reason error)
}

// attempt subscribes to one master and delivers its events until the stream
// ends. The error says why, and is never nil.
func (c *Client) attempt(ctx context.Context, leader master, framework Framework, h Handler) (subscribed bool, err error) {
	api, err := mesosapi.New(mesosapi.Config{
		URL:            leader.url + "/api/v1/scheduler",
		Address:        leader.address,
		User:           c.config.Principal,
		Password:       c.config.Secret,
		TLS:            c.config.TLS,
		MaxConnections: maxConnections,
		Dial:           c.dial,
	})
	if err != nil {
		return false, err
	}
	defer api.Close()
	stream, err := api.Subscribe(ctx, c.subscribeCall(framework), nil)
	if err != nil {
		switch mesosapi.StatusCode(err) {
		case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden:
			return false, fmt.Errorf("%w: %w", ErrRefused, err)
		}
		return false, fmt.Errorf("subscribe: %w", err)
	}
	defer stream.Close()
	stream.SetIdleLimit(firstEvent)
	// A leader that has been deposed may not notice it for a while.
	stop := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-c.finder.moved(leader):
			stream.End(errLeaderChanged)
		case <-stop:
		}
	}()
	defer func() { close(stop); <-watched }()

	for {
		event := new(scheduler.Event)
		err = stream.Next(event)
		if err == nil {
			err = c.deliver(event, leader, stream, api, h)
			subscribed = subscribed || c.current.Load() != nil
		}
		if err == nil {
			continue
		}
		if err == io.EOF {
			err = errStreamClosed
		}
		c.current.Store(nil)
		if subscribed && ctx.Err() == nil {
			c.log.Warn().Str(keyMaster, leader.url).Err(err).Msg("subscription_ended")
		}
		if subscribed {
			h.Disconnected(err)
		}
		return subscribed, err
	}
}

func (c *Client) subscribeCall(framework Framework) *scheduler.Call {
	info := framework.Info
	if info.ID.GetValue() == "" && c.id != "" {
		info.ID = &mesos.FrameworkID{Value: c.id}
	}
	return &scheduler.Call{
		Type:        scheduler.Call_SUBSCRIBE,
		FrameworkID: info.ID,
		Subscribe:   &scheduler.Call_Subscribe{FrameworkInfo: &info, SuppressedRoles: framework.SuppressedRoles},
	}
}

// deliver hands one event to h. An error ends the subscription.
func (c *Client) deliver(event *scheduler.Event, leader master, stream *mesosapi.Stream, api *mesosapi.Client, h Handler) error {
	switch {
	case event.Type == scheduler.Event_ERROR && event.Error != nil:
		return errorOf(event.Error.Message)
	case event.Type == scheduler.Event_SUBSCRIBED && event.Subscribed != nil:
		return c.subscribed(event.Subscribed, leader, stream, api, h)
	case event.Type == scheduler.Event_HEARTBEAT:
	case c.current.Load() == nil:
		return fmt.Errorf("master sent %v before SUBSCRIBED", event.Type)
	case event.Type == scheduler.Event_OFFERS && event.Offers != nil:
		h.Offers(event.Offers.Offers)
	case event.Type == scheduler.Event_RESCIND && event.Rescind != nil:
		h.Rescind(event.Rescind.OfferID.Value)
	case event.Type == scheduler.Event_UPDATE && event.Update != nil:
		h.Update(event.Update.Status)
	case event.Type == scheduler.Event_MESSAGE && event.Message != nil:
		h.Message(event.Message.AgentID.Value, event.Message.ExecutorID.Value, event.Message.Data)
	case event.Type == scheduler.Event_FAILURE && event.Failure != nil:
		status := int32(-1)
		if event.Failure.Status != nil {
			status = *event.Failure.Status
		}
		h.Failure(event.Failure.GetAgentID().GetValue(), event.Failure.GetExecutorID().GetValue(), status)
	default:
		// Inverse offers, operation statuses, and what later masters may say.
		c.log.Debug().Int32(keyEvent, int32(event.Type)).Msg("event_ignored")
	}
	return nil
}

func (c *Client) subscribed(event *scheduler.Event_Subscribed, leader master, stream *mesosapi.Stream, api *mesosapi.Client, h Handler) error {
	id := event.GetFrameworkID().GetValue()
	if id == "" || stream.ID == "" {
		return fmt.Errorf("master sent SUBSCRIBED with framework ID %q and stream ID %q: is this a Mesos master?", id, stream.ID)
	}
	interval := defaultHeartbeat
	if seconds := event.GetHeartbeatIntervalSeconds(); seconds > 0 && seconds < 3600 {
		interval = time.Duration(seconds * float64(time.Second))
	}
	stream.SetIdleLimit(missedHeartbeats * interval)
	c.id = id
	c.current.Store(&subscription{
		url:       leader.url,
		address:   leader.address,
		api:       api,
		framework: mesos.FrameworkID{Value: id},
		header:    http.Header{"Mesos-Stream-Id": {stream.ID}},
		end:       stream.End,
	})
	c.log.Info().Str(keyMaster, leader.url).Str(keyFramework, id).Msg("subscribed")
	s := Subscription{FrameworkID: id, URL: leader.url, HeartbeatInterval: interval}
	if info := event.GetMasterInfo(); info != nil {
		s.Master = *info
	}
	h.Subscribed(s)
	return nil
}

// errorOf classes an ERROR event, which has nothing but its text. The texts
// are those of Mesos 1.0 to 1.12.
func errorOf(message string) error {
	switch {
	case strings.Contains(message, "Framework failed over"):
		return fmt.Errorf("%w (%q)", ErrFailedOver, message)
	case strings.Contains(message, "Framework has been removed"):
		return fmt.Errorf("%w (%q)", ErrRemoved, message)
	default:
		return fmt.Errorf("%w: %q", ErrRefused, message)
	}
}
