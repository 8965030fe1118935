package process

import (
	"fmt"
	"strings"
	"testing"
)

func TestOutput_IsWholeWhenKillReturns(t *testing.T) {
	run(t, func(e *env) {
		cases := []struct{ name, line, want string }{
			{"no newline at the end", `printf 'a\nb'`, "a\nb"},
			{"held by an orphan", `echo a; (setsid sh -c 'echo b; exec sleep 1000' &); sleep 0.1; echo c`, "a\nb\nc\n"},
			{"binary", `printf '\000\377\n\r\n'`, "\x00\xff\n\r\n"},
			{"both streams in order", `for i in 1 2 3; do echo $i; echo -$i >&2; done`, "1\n-1\n2\n-2\n3\n-3\n"},
			{"more than a pipe holds", `i=0; while [ $i -lt 3000 ]; do echo 0123456789012345678901234567890123456789; i=$((i+1)); done`,
				strings.Repeat("0123456789012345678901234567890123456789\n", 3000)},
		}
		for i, c := range cases {
			var out buffer
			spec := shell(fmt.Sprintf("output.%d", i), c.line)
			spec.Stdout, spec.Stderr = &out, &out
			p := e.start(spec)
			e.waitDone(p)
			e.kill(p)
			if out.String() != c.want {
				e.Errorf("%s: %d bytes %.60q, want %d bytes", c.name, len(out.String()), out.String(), len(c.want))
			}
		}
	})
}
