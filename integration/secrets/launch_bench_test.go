package secrets

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"pacer/executor/process"
)

// BenchmarkLaunch compares the start of a process without secrets with that of
// one that has ten variables and a file from a local Vault, the fetch included.
func BenchmarkLaunch(b *testing.B) {
	s := newSite(b)
	k := s.keeper(s.client(nil))
	labels := s.tenSecrets("web")
	labels["secret.file.key"] = "secret/web/all#key0"
	d := declared(b, labels)
	supervisor, err := process.New(b.Context(), process.Config{}, zerolog.Nop())
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := supervisor.Close(context.WithoutCancel(b.Context())); err != nil {
			b.Error(err)
		}
	}()
	var plain, secret []time.Duration
	n := 0
	launch := func(with bool) time.Duration {
		n++
		spec := process.Spec{TaskID: fmt.Sprint("web.", n), Argv: []string{"/bin/sleep", "1000"}, Env: []string{"PATH=/bin"}, Dir: b.TempDir()}
		id := s.task("web")
		begin := time.Now()
		if with {
			grant, err := k.Acquire(b.Context(), id, d, nil)
			if err != nil {
				b.Fatal(err)
			}
			for _, v := range grant.Bundle.Variables {
				spec.SecretEnv = append(spec.SecretEnv, process.SecretVariable{Name: v.Name, Value: v.Secret.Reveal()})
			}
			for _, f := range grant.Bundle.Files {
				spec.SecretFiles = append(spec.SecretFiles, process.SecretFile{Name: f.Name, Mode: f.Mode, Content: f.Secret.Reveal()})
			}
		}
		p, err := supervisor.Start(b.Context(), spec)
		took := time.Since(begin)
		if err != nil {
			b.Fatal(err)
		}
		if err := p.Kill(b.Context()); err != nil {
			b.Fatal(err)
		}
		return took
	}
	for b.Loop() {
		plain = append(plain, launch(false))
		secret = append(secret, launch(true))
	}
	slices.Sort(plain)
	slices.Sort(secret)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	half, late := len(plain)/2, len(plain)*99/100
	b.ReportMetric(ms(plain[half]), "plain-p50-ms")
	b.ReportMetric(ms(secret[half]), "secrets-p50-ms")
	b.ReportMetric(ms(secret[half]-plain[half]), "added-p50-ms")
	b.ReportMetric(ms(secret[late]-plain[late]), "added-p99-ms")
}
