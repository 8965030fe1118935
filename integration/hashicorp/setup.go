package hashicorp

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"
)

// Documented returns the commands of one section of the package comment of
// secrets/vault: the first indented block below the heading. Tests carry them
// out, so that what is documented is what is tried.
func Documented(t testing.TB, heading string) string {
	t.Helper()
	_, here, _, ok := runtime.Caller(0)
	if !ok {
		t.Fatal("built without source positions")
	}
	data, err := os.ReadFile(filepath.Join(filepath.Dir(here), "../../secrets/vault/doc.go"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(data), "// # "+heading+"\n")
	if !ok {
		t.Fatalf("doc.go has no section %q", heading)
	}
	var block []string
	for line := range strings.Lines(section) {
		text, indented := strings.CutPrefix(line, "//\t")
		switch {
		case indented:
			block = append(block, text)
		case len(block) > 0 && strings.TrimSpace(line) == "//":
			block = append(block, "\n")
		case len(block) > 0:
			return strings.Join(block, "")
		}
	}
	t.Fatalf("section %q has no commands", heading)
	return ""
}

// CarryOut does what commands of Vault's command line do, over its API. replace
// holds pairs of a placeholder and its value.
func (v *Vault) CarryOut(t testing.TB, script string, replace ...string) {
	t.Helper()
	root := v.Root
	script = strings.NewReplacer(append(replace, "\\\n", " ")...).Replace(script)
	variables := map[string]string{}
	lines := strings.Split(script, "\n")
	for len(lines) > 0 {
		line := lines[0]
		lines = lines[1:]
		for name, value := range variables {
			line = strings.ReplaceAll(line, "$"+name, value)
		}
		var input []string
		if before, ok := strings.CutSuffix(line, "<<EOF"); ok {
			line = before
			for len(lines) > 0 && lines[0] != "EOF" {
				for name, value := range variables {
					lines[0] = strings.ReplaceAll(lines[0], "$"+name, value)
				}
				input = append(input, lines[0])
				lines = lines[1:]
			}
			lines = lines[1:]
		}
		if name, value, ok := strings.Cut(line, "=$(vault auth list"); ok {
			// NAME=$(vault auth list -format=json | jq -r '."MOUNT/".accessor')
			mount := strings.TrimSuffix(value[strings.Index(value, `'."`)+3:], `".accessor')`)
			mounts, err := root.Sys().ListAuthWithContext(t.Context())
			if err != nil || mounts[mount] == nil {
				t.Fatalf("%s: no method at %q: %v", line, mount, err)
			}
			variables[name] = mounts[mount].Accessor
			continue
		}
		if words := strings.Fields(line); len(words) > 0 {
			if err := command(t.Context(), root, words, strings.Join(input, "\n")); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
		}
	}
}

func command(ctx context.Context, root *api.Client, words []string, input string) error {
	flags := map[string]string{}
	data := map[string]any{}
	var args []string
	for _, word := range words {
		name, value, _ := strings.Cut(word, "=")
		switch {
		case word == "-":
		case strings.HasPrefix(word, "-"):
			flags[name[1:]] = value
		case strings.Contains(word, "="):
			if file, ok := strings.CutPrefix(value, "@"); ok {
				content, err := os.ReadFile(file)
				if err != nil {
					return err
				}
				value = string(content)
			}
			data[name] = value
		default:
			args = append(args, word)
		}
	}
	verb, last := strings.Join(args[:len(args)-1], " "), args[len(args)-1]
	path := flags["path"]
	if path == "" {
		path = last
	}
	switch verb {
	case "vault secrets enable":
		return root.Sys().MountWithContext(ctx, path, &api.MountInput{Type: last, Options: map[string]string{"version": flags["version"]}})
	case "vault auth enable":
		return root.Sys().EnableAuthWithOptionsWithContext(ctx, path, &api.EnableAuthOptions{Type: last})
	case "vault policy write":
		return root.Sys().PutPolicyWithContext(ctx, last, input)
	case "vault write":
		if input != "" {
			if err := json.Unmarshal([]byte(input), &data); err != nil {
				return err
			}
		}
		_, err := root.Logical().WriteWithContext(ctx, last, data)
		return err
	}
	return fmt.Errorf("the test does not know this command")
}
