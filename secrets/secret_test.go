package secrets

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/rs/zerolog"
)

func TestP5_SecretPrintsRedactedEverywhere(t *testing.T) {
	const canary = "canary-4711"
	s := NewSecret([]byte(canary))
	type wrapper struct {
		S Secret
		P *Secret
		M map[string]Secret
	}
	w := wrapper{S: s, P: &s, M: map[string]Secret{"k": s}}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%10s", "%w"} {
		fmt.Fprintf(&out, verb+"\n", s)
		fmt.Fprintf(&out, verb+"\n", w)
		fmt.Fprintf(&out, verb+"\n", []any{s, &s})
	}
	for _, v := range []any{s, w, []Secret{s}} {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(data)
	}
	log := zerolog.New(&out)
	log.Info().Interface("a", s).Any("b", w).Stringer("c", s).Str("d", fmt.Sprint(s)).Msg("")
	log.Info().Err(fmt.Errorf("bad %v %s", s, s)).Msgf("%v", s)
	for _, leak := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprint([]byte(canary)), "Y2FuYXJ5LTQ3MTE"} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("output holds the value as %q:\n%s", leak, out.String())
		}
	}
	if !strings.Contains(out.String(), Redacted) {
		t.Error("nothing was printed")
	}
	if string(s.Reveal()) != canary {
		t.Error("Reveal does not give the value")
	}
	s.Wipe()
	if string(w.S.Reveal()) != strings.Repeat("\x00", len(canary)) {
		t.Error("Wipe left the value in a copy")
	}
}
