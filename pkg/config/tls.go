package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
)

// CAFile is a PEM file with the certificates of authorities to trust instead of the system's.
type CAFile string

// UnmarshalText checks that the file holds a certificate.
func (f *CAFile) UnmarshalText(b []byte) error {
	pem, err := os.ReadFile(string(b))
	if err != nil || !x509.NewCertPool().AppendCertsFromPEM(pem) {
		return errors.New("is not a readable PEM file with a certificate")
	}
	*f = CAFile(b)
	return nil
}

// File is the path of a file that can be read.
type File string

// UnmarshalText checks that the file can be read.
func (f *File) UnmarshalText(b []byte) error {
	if _, err := os.ReadFile(string(b)); err != nil {
		return errors.New("is not a readable file")
	}
	*f = File(b)
	return nil
}

// secure adds an authority and a client certificate to a client's TLS, which they switch on. The
// certificate is read for each connection, so it may be replaced.
func secure(c *tls.Config, host string, ca CAFile, cert, key File) *tls.Config {
	if ca == "" && cert == "" {
		return c
	}
	if c == nil {
		c = &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	}
	if ca != "" {
		c.RootCAs = x509.NewCertPool()
		if pem, err := os.ReadFile(string(ca)); err == nil { // it was read when it was loaded
			c.RootCAs.AppendCertsFromPEM(pem)
		}
	}
	if cert != "" {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(string(cert), string(key))
			return &pair, err
		}
	}
	return c
}
