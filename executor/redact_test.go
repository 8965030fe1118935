package executor

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"pacer/secrets"
)

func redactorOf(values ...string) *redactor {
	r := new(redactor)
	for _, v := range values {
		r.add(secrets.NewSecret([]byte(v)))
	}
	return r
}

func TestRedact_FindsValuesInEveryShape(t *testing.T) {
	const value = "s3cr=t/wörd+\"q\"\n-tail"
	key := "-----BEGIN KEY-----\nMIIEvAIBADANBgkq\nhkiG9w0BAQEFAASC\nxyz\n-----END KEY-----\n"
	quoted, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	std, web := base64.StdEncoding, base64.URLEncoding
	for _, tc := range []struct{ name, secret, text, want string }{
		{"as it is", "hunter22", "password hunter22 refused", "password [redacted] refused"},
		{"inside a word", "hunter22", "xhunter22y", "x[redacted]y"},
		{"twice, overlapping", "abab-abab", "abab-abab-abab!", "[redacted]!"},
		{"several lines", value, "got " + value + "!", "got [redacted]!"},
		{"JSON", value, fmt.Sprintf(`{"p":%s}`, quoted), `{"p":"[redacted]"}`},
		{"Go", value, fmt.Sprintf("p=%q", value), `p="[redacted]"`},
		{"query", value, "?p=" + url.QueryEscape(value) + "&x", "?p=[redacted]&x"},
		{"path", value, "/" + url.PathEscape(value) + "/x", "/[redacted]/x"},
		{"hex", value, "0x" + hex.EncodeToString([]byte(value)), "0x[redacted]"},
		{"HEX", value, "0x" + strings.ToUpper(hex.EncodeToString([]byte(value))), "0x[redacted]"},
		{"a line of a key", key, "bad line hkiG9w0BAQEFAASC in key", "bad line [redacted] in key"},
		{"a field of a JSON secret", `{"user":"bob","password":"hunter22"}`, "bob: hunter22", "[redacted]: [redacted]"},
		{"newline at its end", "hunter22\n", "hunter22 refused", "[redacted] refused"},
		{"cut off at the end", "hunter22-hunter23", "trying hunter22-hun", "trying [redacted]"},
		{"beginning that is too short to be meant", "hunter22", "trying hun", "trying hun"},
		{"short, as a word", "pw", "pw: pwd is (pw)", "[redacted]: pwd is ([redacted])"},
		{"empty", "", "nothing", "nothing"},
		{"binary", "\x00\xff\x01\x02\x03", "a\x00\xff\x01\x02\x03b", "a[redacted]b"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := redactorOf(tc.secret, "another one").redact(tc.text); got != tc.want {
				t.Errorf("got  %q\nwant %q", got, tc.want)
			}
		})
	}
	for _, encoding := range []*base64.Encoding{std, web} {
		for _, before := range []string{"", "u", "us", "user:"} {
			text := encoding.EncodeToString([]byte(before + value + "!"))
			got := redactorOf(value).redact(text)
			decoded, _ := encoding.DecodeString(strings.ReplaceAll(got, secrets.Redacted, ""))
			if !strings.Contains(got, secrets.Redacted) || len(got) > len(secrets.Redacted)+12 || bytes.Contains(decoded, []byte("cr=t")) {
				t.Errorf("base64 after %q: %s of %s", before, got, text)
			}
		}
	}
	var none *redactor
	if none.redact("text") != "text" || none.longest() != 0 {
		t.Error("no redactor changes texts")
	}
	r := redactorOf("hunter22")
	if got := r.redactEnd("a hunter22 is no hunter22", 20); got != "[redacted] is no [redacted]" {
		t.Errorf("the end: %q", got)
	}
	r.wipe()
	if r.redact("hunter22") != "hunter22" {
		t.Error("a wiped one remembers")
	}
}

// FuzzRedact hides a secret in any text, plain or encoded, whole or cut off:
// what is left between the redactions never has it.
func FuzzRedact(f *testing.F) {
	f.Add("hunter22", "a", "b", uint8(0))
	f.Add("s3cr=t/wörd\nx", "user:", "\x00", uint8(3))
	f.Add("aaaaa", "aaa", "aaaa", uint8(7))
	f.Fuzz(func(t *testing.T, secret, before, after string, shape uint8) {
		shown := strings.TrimSpace(secret)
		if len(shown) < shortest {
			return
		}
		switch shape % 6 {
		case 1:
			shown = url.QueryEscape(shown)
		case 2:
			shown = hex.EncodeToString([]byte(shown))
		case 3:
			shown = fmt.Sprintf("%q", shown)
			shown = shown[1 : len(shown)-1]
		case 4:
			b, err := json.Marshal(shown)
			if err != nil {
				return
			}
			shown = string(b[1 : len(b)-1])
		case 5:
			shown, after = shown[:max(shortestEnd, len(shown)/2)], ""
		}
		got := redactorOf(secret).redact(before + shown + after)
		if !strings.Contains(got, secrets.Redacted) {
			t.Fatalf("%q with %q becomes %q", before+shown+after, secret, got)
		}
		for part := range strings.SplitSeq(got, secrets.Redacted) {
			if strings.Contains(part, shown) {
				t.Fatalf("%q is left of %q", part, before+shown+after)
			}
		}
	})
}
