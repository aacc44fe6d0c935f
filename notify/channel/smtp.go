package channel

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	gomail "github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"

	"sluice/notify"
)

// Mailer sends e-mails through one SMTP server and reuses idle connections. Safe for concurrent use.
type Mailer struct {
	cfg  EmailConfig
	host string
	port int
	tls  *tls.Config
	now  func() time.Time
	idle chan *smtpConn // at most cfg.Workers
}

// smtpConn is a connection that is logged in.
type smtpConn struct {
	client *gomail.Client
	smtp   *smtp.Client
	raw    net.Conn
	reused bool
}

// NewMailer returns a Mailer for a validated EmailConfig. It connects at the first Send.
func NewMailer(cfg EmailConfig, now func() time.Time) (*Mailer, error) {
	host, service, err := net.SplitHostPort(cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("notify.email.addr: %w", err)
	}
	port, err := strconv.Atoi(service)
	if err != nil {
		return nil, fmt.Errorf("notify.email.addr: %q has no port number", cfg.Addr)
	}
	m := &Mailer{cfg: cfg, host: host, port: port, now: now, idle: make(chan *smtpConn, cfg.Workers),
		tls: &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}}
	if cfg.CAFile == "" {
		return m, nil
	}
	pem, err := os.ReadFile(cfg.CAFile)
	if err != nil {
		return nil, fmt.Errorf("notify.email.ca_file: %w", err)
	}
	m.tls.RootCAs = x509.NewCertPool()
	if !m.tls.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("notify.email.ca_file: %s holds no PEM certificate", cfg.CAFile)
	}
	return m, nil
}

// Close ends the idle connections.
func (m *Mailer) Close() {
	for {
		select {
		case c := <-m.idle:
			_ = c.raw.Close() // no mail is in progress, so QUIT is not needed
		default:
			return
		}
	}
}

// Send delivers one e-mail. 4xx replies are worth a retry, 5xx replies about this mail are final. A broken connection
// and a refused login or sender are faults of the channel. The Result quotes no reply of the server, because replies
// repeat addresses.
func (m *Mailer) Send(ctx context.Context, mail Mail) notify.Result {
	msg, err := mail.compose(m.cfg.From, m.now())
	if err != nil {
		return notify.Permanent("the e-mail address is not valid")
	}
	c, err := m.take(ctx)
	if err != nil {
		return loginResult(err)
	}
	err = c.send(ctx, msg, m.cfg.Timeout)
	if c.reused && broken(err) && !msg.IsDelivered() && ctx.Err() == nil {
		// The server may have closed the idle connection long ago. That does not count as a failure.
		if c, err = m.dial(ctx); err != nil {
			return loginResult(err)
		}
		err = c.send(ctx, msg, m.cfg.Timeout)
	}
	m.release(c, err)
	if msg.IsDelivered() {
		return notify.Delivered() // the error is of the RSET that follows
	}
	return sendResult(err)
}

// take returns an idle connection or a new one.
func (m *Mailer) take(ctx context.Context) (*smtpConn, error) {
	select {
	case c := <-m.idle:
		c.reused = true
		return c, nil
	default:
		return m.dial(ctx)
	}
}

// release makes a connection idle, or closes it if it broke or enough are idle.
func (m *Mailer) release(c *smtpConn, err error) {
	if !broken(err) {
		select {
		case m.idle <- c:
			return
		default:
		}
	}
	_ = c.raw.Close()
}

// broken reports whether the connection cannot be used after an error. After a reply other than 421 it can.
func broken(err error) bool {
	if err == nil {
		return false
	}
	code := replyCode(err)
	return code == 0 || code == codeClosing
}

// dial connects and logs in. The library heeds ctx only until it is connected, so the end of ctx closes the connection.
func (m *Mailer) dial(ctx context.Context) (*smtpConn, error) {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.Timeout)
	defer cancel()
	c := &smtpConn{}
	stopWatch := func() bool { return true }
	connect := func(_ context.Context, network, addr string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		c.raw = conn
		stopWatch = context.AfterFunc(ctx, func() { _ = conn.Close() })
		if m.cfg.TLS == TLSWhole {
			return tls.Client(conn, m.tls), nil
		}
		return conn, nil
	}
	var err error
	if c.client, err = gomail.NewClient(m.host, m.options(connect)...); err != nil {
		return nil, err
	}
	c.smtp, err = c.client.DialToSMTPClientWithContext(ctx)
	if !stopWatch() {
		err = ctx.Err() // instead of the error about a closed connection
	}
	if err != nil {
		if c.raw != nil {
			_ = c.raw.Close()
		}
		return nil, err
	}
	return c, nil
}

func (m *Mailer) options(connect gomail.DialContextFunc) []gomail.Option {
	policy := gomail.NoTLS
	switch m.cfg.TLS {
	case TLSStart:
		policy = gomail.TLSMandatory
	case TLSWhole:
		// The connection is TLS already. Opportunistic makes the library notice that, or it would not log in.
		policy = gomail.TLSOpportunistic
	}
	options := []gomail.Option{gomail.WithPort(m.port), gomail.WithTimeout(m.cfg.Timeout), gomail.WithTLSConfig(m.tls),
		gomail.WithTLSPolicy(policy), gomail.WithDialContextFunc(connect)}
	if m.cfg.HELO != "" {
		options = append(options, gomail.WithHELO(m.cfg.HELO))
	}
	if m.cfg.Username != "" {
		options = append(options, gomail.WithSMTPAuth(gomail.SMTPAuthAutoDiscover),
			gomail.WithUsername(m.cfg.Username), gomail.WithPassword(m.cfg.Password))
	}
	return options
}

// send sends one mail within timeout. The end of ctx closes the connection, because once connected, the library heeds
// no context.
func (c *smtpConn) send(ctx context.Context, msg *gomail.Msg, timeout time.Duration) error {
	defer context.AfterFunc(ctx, func() { _ = c.raw.Close() })()
	if err := c.raw.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	return c.client.SendWithSMTPClient(c.smtp, msg)
}
