package agent

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/integration/mesos/wire"
)

// Checkpoints are written without fsync: what they have to survive is the death of
// the agent, not of the machine.

// saveMessage checkpoints a message; a failure is logged, the agent goes on.
func (a *Agent) saveMessage(path string, m wire.Message) {
	content, err := m.Marshal()
	if err == nil {
		err = replaceFile(path, content)
	}
	if err != nil {
		a.log.Error().Err(err).Str("file", path).Msg("checkpoint cannot be written")
	}
}

func (a *Agent) saveAgentLocked() error {
	content, err := a.info.Marshal()
	if err != nil {
		return err
	}
	if err := replaceFile(filepath.Join(a.agentMeta(), "slave.info"), content); err != nil {
		return err
	}
	if err := replaceFile(filepath.Join(a.metaDir(), "boot_id"), bootID()); err != nil {
		return err
	}
	sandboxes := filepath.Join(a.cfg.WorkDir, "slaves")
	if err := os.MkdirAll(filepath.Join(sandboxes, a.info.GetID().GetValue()), 0o755); err != nil {
		return err
	}
	if err := relink(filepath.Join(sandboxes, "latest"), filepath.Join(sandboxes, a.info.GetID().GetValue())); err != nil {
		return err
	}
	return relink(filepath.Join(a.metaDir(), "slaves", "latest"), a.agentMeta())
}

// bootID changes with every start of the machine; nil where it cannot be told.
func bootID() []byte {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil
	}
	return id
}

func (a *Agent) saveDrainLocked() {
	path := filepath.Join(a.agentMeta(), "drain")
	if a.drain != nil {
		a.saveMessage(path, a.drain)
	} else if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		a.log.Error().Err(err).Msg("end of draining cannot be checkpointed")
	}
}

func (a *Agent) saveFramework(f *framework) {
	a.saveMessage(filepath.Join(a.frameworkMeta(f.id), "framework.info"), &f.info)
}

func (a *Agent) saveExecutor(e *executor) {
	a.saveMessage(filepath.Join(a.executorMeta(e.framework.id, e.id), "executor.info"), &e.info)
	if err := os.MkdirAll(a.runMeta(e), 0o755); err != nil {
		a.log.Error().Err(err).Msg("run cannot be checkpointed")
		return
	}
	if err := relink(filepath.Join(filepath.Dir(a.runMeta(e)), "latest"), a.runMeta(e)); err != nil {
		a.log.Error().Err(err).Msg("run cannot be checkpointed")
	}
}

func (a *Agent) saveTask(e *executor, t *task) {
	a.saveMessage(filepath.Join(a.taskMeta(e, t.info.TaskID.Value), "task.info"), &t.state)
}

// savePID checkpoints a container's helper.
func (a *Agent) savePID(e *executor, c *container) error {
	return replaceFile(filepath.Join(a.runMeta(e), "pids", "forked.pid"),
		fmt.Appendf(nil, "%d %s", c.pid, startTime(c.pid)))
}

// saveMarker notes that the executor has subscribed over HTTP.
func (a *Agent) saveMarker(e *executor) { a.touch(filepath.Join(a.runMeta(e), "http.marker")) }

// saveSentinel notes that a run has ended.
func (a *Agent) saveSentinel(e *executor) {
	if e.framework.checkpoints() {
		a.touch(filepath.Join(a.runMeta(e), "executor.sentinel"))
	}
}

func (a *Agent) touch(path string) {
	if err := replaceFile(path, nil); err != nil {
		a.log.Error().Err(err).Str("file", path).Msg("checkpoint cannot be written")
	}
}

// forgetRunLocked removes the checkpoints of an executor that has been removed.
func (a *Agent) forgetRunLocked(e *executor) {
	if e.framework.checkpoints() {
		a.removeAll(a.executorMeta(e.framework.id, e.id))
	}
}

func (a *Agent) forgetFrameworkLocked(f *framework) {
	if f.checkpoints() {
		a.removeAll(a.frameworkMeta(f.id))
	}
}

func (a *Agent) removeAll(path string) {
	if err := os.RemoveAll(path); err != nil {
		a.log.Error().Err(err).Str("file", path).Msg("checkpoint cannot be removed")
	}
}

// A task's updates are records: a letter and a TaskStatus or a uuid.
const (
	recordUpdate          = 'U'
	recordAcknowledgement = 'A'
)

func (a *Agent) saveUpdate(s *updateStream, status *mesos.TaskStatus) error {
	if s.file == "" {
		return nil
	}
	content, err := status.Marshal()
	if err != nil {
		return err
	}
	return appendRecord(s.file, recordUpdate, content)
}

func (a *Agent) saveAcknowledgement(s *updateStream, id []byte) error {
	if s.file == "" {
		return nil
	}
	return appendRecord(s.file, recordAcknowledgement, id)
}

func appendRecord(path string, kind byte, content []byte) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = file.Write(wire.AppendRecord(nil, append([]byte{kind}, content...)))
	return errors.Join(err, file.Close())
}

// readUpdates replays a task's updates into s and returns them in order. A torn
// record at the end is what a crash leaves and is ignored.
func readUpdates(s *updateStream) (all []mesos.TaskStatus, err error) {
	file, err := os.Open(s.file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return replay(s, file)
}

func replay(s *updateStream, in io.Reader) (all []mesos.TaskStatus, err error) {
	records := wire.NewRecordReader(in, 0)
	for {
		record, err := records.Next()
		switch {
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			return all, nil
		case err != nil:
			return nil, err
		case len(record) == 0:
			return nil, errors.New("empty record")
		}
		content := record[1:]
		switch record[0] {
		case recordUpdate:
			var status mesos.TaskStatus
			if err := status.Unmarshal(content); err != nil {
				return nil, fmt.Errorf("update: %w", err)
			}
			s.received[string(status.UUID)] = true
			s.pending = append(s.pending, status)
			all = append(all, status)
		case recordAcknowledgement:
			if len(s.pending) == 0 {
				return nil, errors.New("acknowledgement without an update")
			}
			s.acknowledged[string(content)] = true
			s.pending = s.pending[1:]
		default:
			return nil, fmt.Errorf("record of unknown kind %q", record[0])
		}
	}
}
