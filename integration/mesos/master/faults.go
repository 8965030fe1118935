package master

// BreakStream ends a framework's event stream without a terminating chunk. The
// master notices, as it does when a scheduler is gone.
func (m *Master) BreakStream(frameworkID string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.core.frameworks[frameworkID]; f != nil && f.stream != nil {
		f.stream.Abort()
	}
}

// FreezeStream makes a framework's event stream swallow everything, heartbeats too,
// while its connection stays open.
func (m *Master) FreezeStream(frameworkID string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.core.frameworks[frameworkID]; f != nil && f.stream != nil {
		f.stream.Freeze()
	}
}

// SendRecord puts any bytes as one record into a framework's event stream, for
// events that are younger than the definitions here. It reports whether there was
// a stream.
func (m *Master) SendRecord(frameworkID string, record []byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.core.frameworks[frameworkID]
	if f == nil || f.stream == nil {
		return false
	}
	f.stream.SendRecord(record)
	return true
}

// Rescind takes an offer back, as the operator's reservation of its resources does.
// It reports whether the offer was outstanding.
func (m *Master) Rescind(offerID string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	o := m.core.offers[offerID]
	if o != nil {
		m.core.rescind(o)
	}
	return o != nil
}
