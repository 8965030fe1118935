package state

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"pacer/scheduler/state/record"
)

// FormatVersion of every record that this build writes, and the newest that
// it reads.
const FormatVersion = 1

// Kinds of nodes: the first part of their keys.
const (
	kindMeta       = "meta"
	kindExecutors  = "executors"
	kindApps       = "apps"
	kindVersions   = "versions"
	kindTasks      = "tasks"
	kindTombstones = "tombstones"
	kindKeys       = "keys"
)

const (
	keyFramework = kindMeta + "/framework"
	keyIdentity  = kindMeta + "/identity"
)

// bucketed returns the key of a node of the given kind.
func bucketed(kind, name string) string {
	sum := sha256.Sum256([]byte(name))
	return kind + "/" + hex.EncodeToString(sum[:1]) + "/" + name
}

// appName is an app's path as part of a key, and as the first part of its
// tasks' IDs.
func appName(path string) string {
	return strings.ReplaceAll(strings.TrimPrefix(path, "/"), "/", "_")
}

func appKey(path string) string       { return bucketed(kindApps, appName(path)) }
func tombstoneKey(path string) string { return bucketed(kindTombstones, appName(path)) }
func executorKey(hash string) string  { return bucketed(kindExecutors, hash) }
func publicKeyKey(id string) string   { return bucketed(kindKeys, id) }

func versionKey(path, version string) string {
	// The bucket is the app's, so that an app's versions stay together.
	return strings.Replace(appKey(path), kindApps, kindVersions, 1) + "@" + version
}

// versioned is any record: each carries the version of its format.
type versioned interface {
	proto.Message
	GetVersion() uint32
}

func marshal(m proto.Message) ([]byte, error) {
	// Deterministic, so that equal records are equal bytes.
	return proto.MarshalOptions{Deterministic: true}.Marshal(m)
}

func unmarshal(data []byte, m versioned) error {
	if err := proto.Unmarshal(data, m); err != nil {
		return errors.New("not a record of this kind")
	}
	switch v := m.GetVersion(); {
	case v == 0:
		return errors.New("record has no format version")
	case v > FormatVersion:
		return fmt.Errorf("%w: it has format version %d, this one reads up to %d: start the newer scheduler, or restore a backup", ErrFormat, v, FormatVersion)
	}
	return nil
}

func milliseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMilliseconds(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

func encodeDefinition(d Definition) *record.Definition {
	return &record.Definition{Version: d.Version, Body: d.Body}
}

func decodeDefinition(r *record.Definition) (Definition, error) {
	if r.GetVersion() == "" {
		return Definition{}, errors.New("definition has no version")
	}
	return Definition{Version: r.GetVersion(), Body: r.GetBody()}, nil
}

func encodeApp(a *App) ([]byte, error) {
	r := &record.App{Version: FormatVersion, Path: a.Path, Definition: encodeDefinition(a.Definition)}
	if d := a.Deployment; d != nil {
		r.Deployment = &record.Deployment{
			Id:              d.ID,
			PreviousVersion: d.PreviousVersion,
			TargetVersion:   d.TargetVersion,
			Started:         milliseconds(d.Started),
			Failed:          uint32(max(d.Failed, 0)),
			Rollback:        d.Rollback,
		}
	}
	if b := a.Backoff; b != (Backoff{}) {
		r.Backoff = &record.Backoff{Delay: b.Delay.Milliseconds(), Until: milliseconds(b.Until)}
	}
	return marshal(r)
}

func decodeApp(data []byte) (*App, error) {
	r := new(record.App)
	if err := unmarshal(data, r); err != nil {
		return nil, err
	}
	definition, err := decodeDefinition(r.GetDefinition())
	if err != nil {
		return nil, err
	}
	a := &App{Path: r.GetPath(), Definition: definition}
	if d := r.GetDeployment(); d != nil {
		a.Deployment = &Deployment{
			ID:              d.GetId(),
			PreviousVersion: d.GetPreviousVersion(),
			TargetVersion:   d.GetTargetVersion(),
			Started:         fromMilliseconds(d.GetStarted()),
			Failed:          int(d.GetFailed()),
			Rollback:        d.GetRollback(),
		}
	}
	if b := r.GetBackoff(); b != nil {
		a.Backoff = Backoff{Delay: time.Duration(b.GetDelay()) * time.Millisecond, Until: fromMilliseconds(b.GetUntil())}
	}
	return a, nil
}

func encodeOldVersion(v OldVersion) ([]byte, error) {
	return marshal(&record.OldVersion{Version: FormatVersion, Path: v.Path, Definition: encodeDefinition(v.Definition)})
}

func decodeOldVersion(data []byte) (OldVersion, error) {
	r := new(record.OldVersion)
	if err := unmarshal(data, r); err != nil {
		return OldVersion{}, err
	}
	definition, err := decodeDefinition(r.GetDefinition())
	return OldVersion{Path: r.GetPath(), Definition: definition}, err
}

func encodeTombstone(t Tombstone) ([]byte, error) {
	return marshal(&record.Tombstone{
		Version:    FormatVersion,
		Path:       t.Path,
		Deleted:    milliseconds(t.Deleted),
		AppVersion: t.Version,
		Deployment: t.Deployment,
	})
}

func decodeTombstone(data []byte) (Tombstone, error) {
	r := new(record.Tombstone)
	if err := unmarshal(data, r); err != nil {
		return Tombstone{}, err
	}
	return Tombstone{
		Path:       r.GetPath(),
		Deleted:    fromMilliseconds(r.GetDeleted()),
		Version:    r.GetAppVersion(),
		Deployment: r.GetDeployment(),
	}, nil
}

func encodeExecutor(e Executor) ([]byte, error) {
	return marshal(&record.Executor{Version: FormatVersion, Hash: e.Hash, Info: e.Info})
}

func decodeExecutor(data []byte) (Executor, error) {
	r := new(record.Executor)
	if err := unmarshal(data, r); err != nil {
		return Executor{}, err
	}
	return Executor{Hash: r.GetHash(), Info: r.GetInfo()}, nil
}

func encodePublicKey(k PublicKey) ([]byte, error) {
	return marshal(&record.PublicKey{
		Version: FormatVersion,
		Id:      k.ID,
		Ed25519: k.Ed25519,
		Created: milliseconds(k.Created),
	})
}

func decodePublicKey(data []byte) (PublicKey, error) {
	r := new(record.PublicKey)
	if err := unmarshal(data, r); err != nil {
		return PublicKey{}, err
	}
	return PublicKey{ID: r.GetId(), Ed25519: r.GetEd25519(), Created: fromMilliseconds(r.GetCreated())}, nil
}

func encodeFramework(id string) ([]byte, error) {
	return marshal(&record.Framework{Version: FormatVersion, Id: id})
}

func decodeFramework(data []byte) (string, error) {
	r := new(record.Framework)
	if err := unmarshal(data, r); err != nil {
		return "", err
	}
	return r.GetId(), nil
}

func encodeIdentity(key []byte) ([]byte, error) {
	return marshal(&record.Identity{Version: FormatVersion, PrivateKey: key})
}

func decodeIdentity(data []byte) ([]byte, error) {
	r := new(record.Identity)
	if err := unmarshal(data, r); err != nil {
		return nil, err
	}
	return r.GetPrivateKey(), nil
}
