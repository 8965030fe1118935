package state

// Change is a set of writes that happen together or not at all. The zero
// value is empty and ready. What is put must not be modified afterwards.
type Change struct {
	framework  *string
	identity   []byte
	executors  map[string]*Executor
	apps       map[string]*App
	versions   map[[2]string]*OldVersion // path, version
	tasks      change
	tombstones map[string]*Tombstone
	keys       map[string]*PublicKey
}

// Empty tells whether there is nothing to write.
func (c *Change) Empty() bool {
	return c.framework == nil && c.identity == nil && len(c.executors) == 0 && len(c.apps) == 0 &&
		len(c.versions) == 0 && len(c.tasks) == 0 && len(c.tombstones) == 0 && len(c.keys) == 0
}

// SetFramework stores the framework id.
func (c *Change) SetFramework(id string) { c.framework = &id }

// SetIdentity stores the private signing key (PKCS #8, DER).
func (c *Change) SetIdentity(key []byte) { c.identity = key }

// PutExecutor stores an ExecutorInfo under its hash.
func (c *Change) PutExecutor(e Executor) { put(&c.executors, e.Hash, &e) }

// DropExecutor forgets an ExecutorInfo.
func (c *Change) DropExecutor(hash string) { put(&c.executors, hash, nil) }

// PutApp stores the current definition and deployment of an app.
func (c *Change) PutApp(a App) { put(&c.apps, a.Path, &a) }

// DropApp forgets an app. Its tombstone is the caller's to put.
func (c *Change) DropApp(path string) { put(&c.apps, path, nil) }

// PutVersion stores a former definition.
func (c *Change) PutVersion(v OldVersion) {
	put(&c.versions, [2]string{v.Path, v.Definition.Version}, &v)
}

// DropVersion forgets a former definition.
func (c *Change) DropVersion(path, version string) {
	put(&c.versions, [2]string{path, version}, nil)
}

// PutTask stores a task record, in place of an older one of the same ID.
func (c *Change) PutTask(t *Task) { put(&c.tasks, t.ID, t) }

// DropTask forgets a task.
func (c *Change) DropTask(id string) { put(&c.tasks, id, nil) }

// PutTombstone stores that an app was deleted.
func (c *Change) PutTombstone(t Tombstone) { put(&c.tombstones, t.Path, &t) }

// DropTombstone forgets that an app was deleted.
func (c *Change) DropTombstone(path string) { put(&c.tombstones, path, nil) }

// PutKey stores a public key.
func (c *Change) PutKey(k PublicKey) { put(&c.keys, k.ID, &k) }

// DropKey forgets a public key.
func (c *Change) DropKey(id string) { put(&c.keys, id, nil) }

func put[M ~map[K]*V, K comparable, V any](m *M, key K, value *V) {
	if *m == nil {
		*m = make(M)
	}
	(*m)[key] = value
}

// encode returns the ops of everything but tasks.
func (c *Change) encode() ([]Op, error) {
	var ops []Op
	var failed error
	add := func(key string, value []byte, err error) {
		if err != nil && failed == nil {
			failed = err
		}
		ops = append(ops, Op{Key: key, Value: value})
	}
	if c.framework != nil {
		value, err := encodeFramework(*c.framework)
		add(keyFramework, value, err)
	}
	if c.identity != nil {
		value, err := encodeIdentity(c.identity)
		add(keyIdentity, value, err)
	}
	for hash, e := range c.executors {
		addNode(add, executorKey(hash), e, func(e *Executor) ([]byte, error) { return encodeExecutor(*e) })
	}
	for path, a := range c.apps {
		addNode(add, appKey(path), a, encodeApp)
	}
	for at, v := range c.versions {
		addNode(add, versionKey(at[0], at[1]), v, func(v *OldVersion) ([]byte, error) { return encodeOldVersion(*v) })
	}
	for path, t := range c.tombstones {
		addNode(add, tombstoneKey(path), t, func(t *Tombstone) ([]byte, error) { return encodeTombstone(*t) })
	}
	for id, k := range c.keys {
		addNode(add, publicKeyKey(id), k, func(k *PublicKey) ([]byte, error) { return encodePublicKey(*k) })
	}
	return ops, failed
}

// addNode puts the encoding of v, or deletes the node when v is nil.
func addNode[V any](add func(string, []byte, error), key string, v *V, encode func(*V) ([]byte, error)) {
	if v == nil {
		add(key, nil, nil)
		return
	}
	value, err := encode(v)
	if err == nil && len(value) > MaxNode {
		err = &SizeError{Key: key, Size: len(value), Limit: MaxNode}
	}
	add(key, value, err)
}
