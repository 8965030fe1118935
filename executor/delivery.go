package executor

import (
	"strings"
	"syscall"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"golang.org/x/sys/unix"

	"pacer/executor/process"
	"pacer/secrets"
)

// deliver puts a task's secrets into what starts it. They stay the bundle's.
func (p *plan) deliver(b *secrets.Bundle, spec *process.Spec) {
	for _, v := range b.Variables {
		spec.SecretEnv = append(spec.SecretEnv, process.SecretVariable{Name: v.Name, Value: v.Secret.Reveal()})
	}
	spec.SecretFiles = files(b.Files)
	spec.KeepSecretEnv = p.runsCommands()
}

func files(values []secrets.Value) []process.SecretFile {
	list := make([]process.SecretFile, len(values))
	for i, v := range values {
		list[i] = process.SecretFile{Name: v.Name, Mode: v.Mode, Content: v.Secret.Reveal()}
	}
	return list
}

// runsCommands reports whether some check is a command, which sees the task's
// environment.
func (p *plan) runsCommands() bool {
	if p.check != nil && p.check.probe.Command != nil {
		return true
	}
	for _, check := range p.health {
		if check.Command != nil {
			return true
		}
	}
	return false
}

// restartForSecrets is the value of [payload.LabelRestart] when a secret has
// another value than the task was started with.
const restartForSecrets = "secret-rotated"

// followSecrets brings changes of secrets to the running task as its labels ask
// for it.
func (t *task) followSecrets(proc Process, grant *secrets.Grant, known *redactor) {
	for {
		select {
		case change := <-grant.Changes():
			t.changeSecrets(proc, grant, change, known)
		case <-proc.Done():
			return
		case <-t.ctx.Done():
			return
		}
	}
}

func (t *task) changeSecrets(proc Process, grant *secrets.Grant, change secrets.Change, known *redactor) {
	defer change.Wipe()
	action, name := grant.Action()
	log := t.log.With().Strs(keySecrets, change.Names).Logger()
	if len(change.Files) > 0 {
		if known != nil {
			for _, f := range change.Files {
				known.add(f.Secret)
			}
		}
		if err := proc.ReplaceSecretFiles(files(change.Files)); err != nil {
			log.Error().Err(err).Msg("secret files keep their old content")
			return
		}
	}
	switch action {
	case secrets.ActionSignal:
		if err := proc.SignalMain(syscall.Signal(unix.SignalNum("SIG" + name))); err != nil {
			log.Error().Err(err).Msg("task not signalled for its changed secrets")
			return
		}
		log.Info().Str(keySignal, name).Msg("task signalled for its changed secrets")
	case secrets.ActionRestart:
		log.Info().Msg("secrets have changed; the scheduler is asked for a replacement")
		t.post(rotated{names: strings.Join(change.Names, ", ")})
	default:
		log.Info().Msg("secrets have changed; the task is not told")
	}
}

// sayRotated reports the wish to be replaced as soon as TASK_RUNNING can be said.
// The label stays on all later statuses, for a scheduler that has not seen this
// one.
func (t *transition) sayRotated() {
	if t.rotated == "" || t.saidRotated || t.order != launching || t.process != alive || !t.rules.checked && t.phase() != running {
		return
	}
	t.saidRotated = true
	t.say(mesos.TASK_RUNNING, nil, "secrets have changed: "+t.rotated+"; a replacement is asked for")
}
