package app

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
)

// storeFormat is the first byte of what [Encode] makes: deflated JSON, with
// storeDictionary.
const storeFormat = 1

// MaxEncoded is the size in bytes above which [Encode] refuses a definition:
// the store keeps each in one small node.
const MaxEncoded = 64 << 10

// maxDecoded bounds what [Decode] inflates; a body of the API is at most 2 MiB.
const maxDecoded = 16 << 20

// storeDictionary holds what most definitions have in common, the most
// frequent last, so that a small app takes some 150 bytes instead of 900. It
// is part of format 1: data written with it cannot be read with another.
const storeDictionary = `"executable":false,"cache":false,"destPath":"","sha256":"https://",` +
	`"deployment":{"deadlineSeconds":600,"maxFailures":3,"rollback":true},"taskKillGracePeriodSeconds":` +
	`"secret.file.","secret.env-from.","secret.env.","service.name":"service.required":"true","consul":"HAPROXY_GROUP":"external","traefik.enable":"drain":"5s"` +
	`"acceptedResourceRoles":["*"],"unreachableStrategy":"disabled","constraints":[["hostname","UNIQUE"]],["hostname","GROUP_BY"]],"@zone","MAX_PER","LIKE","UNLIKE",` +
	`"protocol":"COMMAND","command":{"value":"protocol":"TCP","protocol":"MESOS_TCP","protocol":"udp",` +
	`"args":["./"user":"root","cmd":"./" --port $PORT0","env":{"JAVA_OPTS":"-Xmx` +
	`"id":"/","cmd":"","env":{},"instances":1,"cpus":0.1,"mem":128,"disk":0,"gpus":0,"constraints":[],"fetch":[{"uri":"","extract":true,"executable":false,"cache":false}],` +
	`"fetch":[],"portDefinitions":[{"port":0,"protocol":"tcp","name":"http"},{"port":0,"protocol":"tcp","name":"admin"}],"portDefinitions":[{"port":0,"protocol":"tcp","name":"default"}],` +
	`"requirePorts":false,"networks":[{"mode":"host"}],"backoffSeconds":1,"backoffFactor":1.15,"maxLaunchDelaySeconds":300,` +
	`"healthChecks":[],"healthChecks":[{"protocol":"MESOS_HTTP","path":"/health","portIndex":0,"gracePeriodSeconds":300,"delaySeconds":15,"intervalSeconds":60,"timeoutSeconds":20,"maxConsecutiveFailures":3}],` +
	`"upgradeStrategy":{"minimumHealthCapacity":1,"maximumOverCapacity":1},"killSelection":"YOUNGEST_FIRST","unreachableStrategy":{"inactiveAfterSeconds":0,"expungeAfterSeconds":0},` +
	`"labels":{},"version":"2026-01-01T00:00:00.000Z","versionInfo":{"lastScalingAt":"2026-01-01T00:00:00.000Z","lastConfigChangeAt":"2026-01-01T00:00:00.000Z"}}`

// deflaters are kept because each holds tables of several hundred KiB.
var deflaters = sync.Pool{New: func() any {
	// The level is valid, so there is no error.
	w, _ := flate.NewWriterDict(io.Discard, flate.BestCompression, []byte(storeDictionary))
	return w
}}

// Encode is a as the store keeps it. A definition that is too large is an
// [*Error].
func Encode(a *App) ([]byte, error) {
	var out bytes.Buffer
	out.WriteByte(storeFormat)
	w := deflaters.Get().(*flate.Writer)
	defer deflaters.Put(w)
	w.Reset(&out)
	// Writing to memory cannot fail.
	_, _ = w.Write(a.JSON())
	_ = w.Close()
	if out.Len() > MaxEncoded {
		return nil, Refuse("/", fmt.Sprintf("the definition takes %d bytes compressed, at most %d are stored: move files out of it into fetch, and long lists of variables into secret.env-from", out.Len(), MaxEncoded))
	}
	return slices.Clip(out.Bytes()), nil
}

// Decode reads what [Encode] made. It does not validate again: what was once
// accepted stays readable when the rules become stricter.
func Decode(data []byte) (*App, error) {
	if len(data) == 0 {
		return nil, errors.New("stored app is empty")
	}
	if data[0] != storeFormat {
		return nil, fmt.Errorf("stored app has format %d, this scheduler reads format %d: it was written by a newer version", data[0], storeFormat)
	}
	inflater := flate.NewReaderDict(bytes.NewReader(data[1:]), []byte(storeDictionary))
	definition, err := io.ReadAll(io.LimitReader(inflater, maxDecoded))
	if err != nil {
		return nil, fmt.Errorf("inflate stored app of %d bytes: %w", len(data), err)
	}
	root, err := parseTree(definition)
	if err != nil {
		return nil, fmt.Errorf("stored app: %w", err)
	}
	var r reader
	a := Default("")
	a.read(&r, root)
	if err := r.err(); err != nil {
		return nil, fmt.Errorf("stored app %s: %w", a.ID, err)
	}
	if a.Version, err = storedVersion(root, "version"); err != nil {
		return nil, fmt.Errorf("stored app %s: %w", a.ID, err)
	}
	if info := root.member("versionInfo"); info != nil {
		if a.LastScaling, err = storedVersion(info, "lastScalingAt"); err != nil {
			return nil, fmt.Errorf("stored app %s: %w", a.ID, err)
		}
		if a.LastConfigChange, err = storedVersion(info, "lastConfigChangeAt"); err != nil {
			return nil, fmt.Errorf("stored app %s: %w", a.ID, err)
		}
	}
	return a, nil
}

func storedVersion(n *node, name string) (Version, error) {
	v := n.member(name)
	if v == nil || v.text == "" {
		return 0, nil
	}
	return ParseVersion(v.text)
}
