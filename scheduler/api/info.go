package api

import (
	"net/http"

	"pacer/scheduler/access"
)

type infoBody struct {
	Name            string     `json:"name"`
	Version         string     `json:"version"`
	FrameworkID     string     `json:"frameworkId"`
	Leader          string     `json:"leader,omitempty"`
	Elected         bool       `json:"elected"`
	Stale           bool       `json:"stale"`
	MarathonConfig  configBody `json:"marathon_config"`
	ZookeeperConfig emptyBody  `json:"zookeeper_config"`
	HTTPConfig      emptyBody  `json:"http_config"`
	// Quarantine is Pacer's own.
	Quarantine quarantineBody `json:"quarantine"`
}

// quarantineBody are tasks that no app here knows, and that are left alone.
type quarantineBody struct {
	Count int               `json:"count"`
	Tasks []quarantinedBody `json:"tasks"`
}

type quarantinedBody struct {
	ID      string `json:"id"`
	SlaveID string `json:"slaveId"`
	State   string `json:"state"`
}

// configBody is called marathon_config because clients look there.
type configBody struct {
	Master          string  `json:"master"`
	FrameworkName   string  `json:"framework_name"`
	MesosRole       string  `json:"mesos_role"`
	MesosUser       string  `json:"mesos_user"`
	FailoverTimeout float64 `json:"failover_timeout"`
	Checkpoint      bool    `json:"checkpoint"`
}

type emptyBody struct{}

func (s *server) ping(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("pong"))
	return nil
}

// health says that the process answers; whether it can work is ready's.
func (s *server) health(w http.ResponseWriter, _ *http.Request) error {
	return reply(w, http.StatusOK, map[string]bool{"alive": true})
}

// ready is for load balancers and supervisors, hence a 503 where it is not.
func (s *server) ready(w http.ResponseWriter, r *http.Request) error {
	if err := s.backend.Ready(r.Context()); err != nil {
		return refuse(http.StatusServiceUnavailable, "%s", err)
	}
	return reply(w, http.StatusOK, map[string]bool{"ready": true})
}

func (s *server) info(w http.ResponseWriter, r *http.Request) error {
	info, err := s.backend.Info(r.Context())
	if err != nil {
		return err
	}
	quarantine := quarantineBody{Count: info.QuarantineCount, Tasks: make([]quarantinedBody, 0, len(info.Quarantine))}
	for _, t := range info.Quarantine {
		quarantine.Tasks = append(quarantine.Tasks, quarantinedBody{ID: t.ID, SlaveID: t.AgentID, State: t.State})
	}
	return reply(w, http.StatusOK, infoBody{
		Quarantine:  quarantine,
		Name:        info.Name,
		Version:     info.Version,
		FrameworkID: info.FrameworkID,
		Leader:      info.Leader,
		Elected:     info.Leader != "",
		Stale:       info.Stale,
		MarathonConfig: configBody{
			Master:          info.Master,
			FrameworkName:   info.Name,
			MesosRole:       info.Role,
			MesosUser:       info.User,
			FailoverTimeout: info.FailoverTimeout.Seconds(),
			Checkpoint:      info.Checkpoint,
		},
	})
}

func (s *server) leader(w http.ResponseWriter, r *http.Request) error {
	info, err := s.backend.Info(r.Context())
	if err != nil {
		return err
	}
	if info.Leader == "" {
		return refuse(http.StatusNotFound, "There is no leader")
	}
	return reply(w, http.StatusOK, map[string]string{"leader": info.Leader})
}

// abdicate ends this scheduler's lead. Whoever may delete everything may do so.
func (s *server) abdicate(w http.ResponseWriter, r *http.Request) error {
	if err := s.demand(r, access.Delete, "/"); err != nil {
		return err
	}
	if s.giveUp == nil {
		return refuse(http.StatusConflict, "This scheduler's state is its own: no other one could take the lead")
	}
	s.giveUp()
	return reply(w, http.StatusOK, map[string]string{"message": "Leadership abdicated"})
}

// plugins is empty: there are none.
func (s *server) plugins(w http.ResponseWriter, _ *http.Request) error {
	return reply(w, http.StatusOK, map[string][]string{"plugins": {}})
}
