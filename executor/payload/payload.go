package payload

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"
)

// Version is the format that this build writes, and the newest it reads.
const Version = 1

// Names of the labels on TaskStatus by which the executor tells the scheduler
// what Mesos has no field for. Unlike MESSAGE they are retried until
// acknowledged.
const (
	// LabelUnhealthy has the value "threshold" on the status that reports the
	// last tolerated failure: the scheduler is to replace and kill the task.
	LabelUnhealthy = "pacer.unhealthy"
	// LabelFailure classes a terminal status; see the Failure constants.
	LabelFailure = "pacer.failure"
	// LabelPeakMemory is the most memory the task ever used, in bytes.
	LabelPeakMemory = "pacer.peak-memory"
	// LabelRestart has the reason, e.g. "secret-rotated", for which the
	// executor asks the scheduler to replace the task.
	LabelRestart = "pacer.restart"
	// LabelVersion is set on TaskInfo (not on statuses): the app version that
	// the task was made from, by which a scheduler without records adopts it.
	LabelVersion = "pacer.version"
)

// Values of [LabelFailure].
const (
	FailureInvalid      = "invalid"      // payload, label or check that cannot be understood
	FailureSecrets      = "secrets"      // secrets could not be fetched
	FailureFetch        = "fetch"        // a task URI could not be fetched
	FailureStart        = "start"        // the process could not be started
	FailureExit         = "exit"         // exit code other than 0
	FailureSignal       = "signal"       // ended by a signal nobody here sent
	FailureOOM          = "oom"          // killed by the kernel for memory
	FailureHealth       = "health"       // killed for failed health checks
	FailureRegistration = "registration" // could not be registered in time
	FailureTimeout      = "max-completion-time"
)

// ErrVersion is wrapped by [Decode] when the payload was written in a format
// newer than [Version].
var ErrVersion = errors.New("payload version not supported")

// Encode stamps t with [Version] and serialises it.
func Encode(t *Task) ([]byte, error) {
	t.Version = Version
	data, err := proto.Marshal(t)
	if err != nil {
		return nil, fmt.Errorf("encode task payload: %w", err)
	}
	return data, nil
}

// Decode parses what [Encode] made. Errors name what is wrong but never quote
// the payload, which holds a credential.
func Decode(data []byte) (*Task, error) {
	t := new(Task)
	if err := proto.Unmarshal(data, t); err != nil {
		return nil, fmt.Errorf("TaskInfo.data is not a Pacer payload (%d bytes, not the expected protobuf): launch this task through a scheduler of Pacer %d.x", len(data), Version)
	}
	if t.Version > Version {
		return nil, fmt.Errorf("%w: payload has version %d, this executor reads up to %d: upgrade the executor", ErrVersion, t.Version, Version)
	}
	if t.Version == 0 {
		return nil, fmt.Errorf("%w: payload has no version, this executor reads 1 to %d", ErrVersion, Version)
	}
	shell, argv := t.GetCommand().GetShell(), t.GetCommand().GetArgv()
	switch {
	case shell == "" && len(argv) == 0:
		return nil, errors.New("payload has no command: set command.shell or command.argv")
	case shell != "" && len(argv) > 0:
		return nil, errors.New("payload has both command.shell and command.argv: set one")
	}
	return t, nil
}

// maxMessage is the longest message that is read.
const maxMessage = 1 << 20

// EncodeMessage serialises m for Mesos' MESSAGE.
func EncodeMessage(m *Message) ([]byte, error) {
	data, err := proto.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode message: %w", err)
	}
	return data, nil
}

// DecodeMessage parses what [EncodeMessage] made. Errors do not quote it: it may
// hold credentials.
func DecodeMessage(data []byte) (*Message, error) {
	m := new(Message)
	if len(data) > maxMessage {
		return nil, fmt.Errorf("message of %d bytes is longer than the longest, %d", len(data), maxMessage)
	}
	if err := proto.Unmarshal(data, m); err != nil {
		return nil, fmt.Errorf("message is not Pacer's (%d bytes, not the expected protobuf)", len(data))
	}
	return m, nil
}
