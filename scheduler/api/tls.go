package api

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"time"
)

// certificateRecheck is how often the files are looked at for changes.
const certificateRecheck = time.Second

// certificate is read again when its files change, so that it can be renewed
// without a restart.
type certificate struct {
	certFile, keyFile string

	mu      sync.Mutex
	looked  time.Time
	stamps  [2]string
	current *tls.Certificate
}

// LoadTLS is what a listener needs to serve TLS with a certificate and a key
// in PEM files, which are read again when they change. While they do not fit
// together, as between the writing of one and of the other, the former
// certificate is served.
func LoadTLS(certFile, keyFile string) (*tls.Config, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile}
	if err := c.read(); err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.get(), nil },
	}, nil
}

func (c *certificate) get() *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) >= certificateRecheck {
		// What cannot be read now is tried again with the next connection.
		_ = c.readLocked()
	}
	return c.current
}

func (c *certificate) read() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.readLocked()
}

func (c *certificate) readLocked() error {
	c.looked = time.Now()
	var stamps [2]string
	for i, path := range []string{c.certFile, c.keyFile} {
		info, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("look at certificate: %w", err)
		}
		stamps[i] = fmt.Sprint(info.ModTime().UnixNano(), info.Size())
	}
	if stamps == c.stamps {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("read certificate %s with key %s: %w", c.certFile, c.keyFile, err)
	}
	c.stamps, c.current = stamps, &pair
	return nil
}
