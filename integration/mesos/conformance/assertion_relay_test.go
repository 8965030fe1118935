package conformance_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"

	"pacer/integration/mesos/probe"
	"pacer/integration/mesos/wire"
)

// crumbler is a proxy that passes on what servers send byte by byte.
func (w *world) crumbler(server string) (address string) {
	w.Helper()
	return w.relay(server, func(to net.Conn, from net.Conn) {
		one := make([]byte, 1)
		for {
			if _, err := from.Read(one); err != nil {
				return
			}
			if _, err := to.Write(one); err != nil {
				return
			}
		}
	})
}

// relay passes connections on to a server; answer copies what the server says.
func (w *world) relay(server string, answer func(to, from net.Conn)) (address string) {
	w.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	w.must(err)
	var mu sync.Mutex
	var group sync.WaitGroup
	var open []net.Conn
	w.Cleanup(func() {
		listener.Close()
		mu.Lock()
		for _, connection := range open {
			connection.Close()
		}
		mu.Unlock()
		group.Wait()
	})
	group.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			upstream, err := net.DialTimeout("tcp", server, probe.Patience)
			if err != nil {
				client.Close()
				continue
			}
			mu.Lock()
			open = append(open, client, upstream)
			mu.Unlock()
			group.Go(func() {
				defer upstream.Close()
				_, _ = io.Copy(upstream, client)
			})
			group.Go(func() {
				defer client.Close()
				answer(client, upstream)
			})
		}
	})
	return listener.Addr().String()
}

// injector is a proxy that puts records into event streams, after their first one.
func (w *world) injector(server string, records ...[]byte) (address string) {
	w.Helper()
	target, err := url.Parse(server)
	w.must(err)
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.FlushInterval = -1
	proxy.Transport = &http.Transport{DisableKeepAlives: true}
	proxy.ModifyResponse = func(answer *http.Response) error {
		if answer.StatusCode == http.StatusOK && answer.Header.Get("Content-Type") == string(wire.Protobuf) {
			answer.Body = &injected{upstream: answer.Body, in: wire.NewRecordReader(answer.Body, 0), more: records}
		}
		return nil
	}
	front := httptest.NewServer(proxy)
	w.Cleanup(front.Close)
	return front.URL
}

// injected is a stream of records with some more in it.
type injected struct {
	upstream io.Closer
	in       *wire.RecordReader
	more     [][]byte
	ready    []byte
}

func (i *injected) Read(p []byte) (int, error) {
	if len(i.ready) == 0 {
		record, err := i.in.Next()
		if err != nil {
			return 0, err
		}
		i.ready = wire.AppendRecord(nil, record)
		for _, record := range i.more {
			i.ready = wire.AppendRecord(i.ready, record)
		}
		i.more = nil
	}
	n := copy(p, i.ready)
	i.ready = i.ready[n:]
	return n, nil
}

func (i *injected) Close() error { return i.upstream.Close() }

// freezer is a proxy whose connections can be made silent; new ones work.
func (w *world) freezer(server string) (address string, freeze func()) {
	var mu sync.Mutex
	var old []chan struct{} // closed to freeze a connection
	address = w.relay(server, func(to, from net.Conn) {
		own := make(chan struct{})
		mu.Lock()
		old = append(old, own)
		mu.Unlock()
		buffer := make([]byte, 1<<16)
		for {
			n, err := from.Read(buffer)
			if err != nil {
				return
			}
			select {
			case <-own:
				continue // swallowed
			default:
			}
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
	})
	return address, func() {
		mu.Lock()
		defer mu.Unlock()
		for _, own := range old {
			close(own)
		}
		old = nil
	}
}
