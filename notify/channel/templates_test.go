package channel

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"sluice/notify"
)

func TestTemplatesFollowsTheLocale(t *testing.T) {
	t.Parallel()
	w, err := NewTemplates("", English, "UTC")
	require.NoError(t, err)
	for locale, want := range map[string]string{
		"zh-CN": "Phone <X>：订单 456789ab 已确认。请在 2026-11-11 00:15 UTC 前支付。",
		"zh-TW": "Phone <X>：订单 456789ab 已确认。请在 2026-11-11 00:15 UTC 前支付。",
		"en":    "Phone <X>: order 456789ab confirmed. Pay by 2026-11-11 00:15 UTC.",
		"en-GB": "Phone <X>: order 456789ab confirmed. Pay by 2026-11-11 00:15 UTC.",
		"":      "Phone <X>: order 456789ab confirmed. Pay by 2026-11-11 00:15 UTC.",
		"fr":    "Phone <X>: order 456789ab confirmed. Pay by 2026-11-11 00:15 UTC.",
	} {
		to := ann()
		to.Locale = locale
		got, err := w.text(confirmed(), to)
		require.NoError(t, err)
		require.Equal(t, want, got, locale)
	}
	w, err = NewTemplates("", Chinese, "UTC")
	require.NoError(t, err)
	got, err := w.text(confirmed(), notify.Recipient{SaleTitle: "X"})
	require.NoError(t, err)
	require.Equal(t, "X：订单 456789ab 已确认。", got)
	_, err = w.text(notify.Message{Event: "order.eaten"}, notify.Recipient{})
	require.Error(t, err)
	title := ann()
	title.SaleTitle = "two\r\nlines"
	l, err := w.mail(confirmed(), title)
	require.NoError(t, err)
	require.Equal(t, "订单已确认：two lines", l.subject, "a title cannot add headers")
}

func TestTemplatesOfTheOperators(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(folder, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	all := ""
	for _, event := range notify.Events() {
		all += `{{define "` + event + `"}}{{.Sale}}!{{end}}`
	}
	write("en/sms.txt", all)
	w, err := NewTemplates(folder, English, "UTC")
	require.NoError(t, err)
	got, err := w.text(confirmed(), notify.Recipient{SaleTitle: "X"})
	require.NoError(t, err)
	require.Equal(t, "X!", got)
	_, err = w.mail(confirmed(), notify.Recipient{})
	require.NoError(t, err, "what the folder lacks is shipped")

	write("de/sms.txt", all)
	_, err = NewTemplates(folder, English, "UTC")
	require.ErrorContains(t, err, "de/email.txt", "a language of its own needs all files")
	require.NoError(t, os.RemoveAll(filepath.Join(folder, "de")))
	for _, broken := range []string{"{{", `{{define "order.confirmed"}}{{end}}`,
		all + `{{define "order.paid"}}{{.Phone}}{{end}}`} {
		write("en/sms.txt", broken)
		_, err = NewTemplates(folder, English, "UTC")
		require.ErrorContains(t, err, "notify.templates", broken)
	}
	_, err = NewTemplates(filepath.Join(folder, "none"), English, "UTC")
	require.ErrorContains(t, err, "notify.templates")
	_, err = NewTemplates("", "fr", "UTC")
	require.ErrorContains(t, err, "notify.locale")
	_, err = NewTemplates("", English, "Mars/Olympus")
	require.ErrorContains(t, err, "notify.time_zone")
}

// TestAmountsHaveTheDigitsOfTheirCurrency checks that the minor units of ISO 4217 reach mail and SMS.
func TestAmountsHaveTheDigitsOfTheirCurrency(t *testing.T) {
	t.Parallel()
	w, err := NewTemplates("", English, "UTC")
	require.NoError(t, err)
	for currency, want := range map[string]string{"JPY": "19800 JPY", "KWD": "19.800 KWD", "CNY": "198.00 CNY"} {
		to := ann()
		to.Currency, to.Locale = currency, English
		l, err := w.mail(confirmed(), to)
		require.NoError(t, err)
		require.Contains(t, l.text, want)
		require.Contains(t, l.html, want)
		require.Equal(t, want, w.facts(confirmed(), to).Total)
	}
}

// TestRefundsSayWhy checks that refund messages describe the order as it is: it may still be confirmed.
func TestRefundsSayWhy(t *testing.T) {
	t.Parallel()
	w, err := NewTemplates("", English, "UTC")
	require.NoError(t, err)
	for _, c := range []struct{ refund, status, en, zh, sms string }{
		{"late", "expired", "after the order had expired", "订单失效之后到达", "came too late"},
		{"again", "paid", "paid before; the order stands", "重复付款", "came twice"},
		{"ended", "cancelled", "had been cancelled", "已取消", "came after its end"},
		{"amount", "confirmed", "the order is still unpaid", "订单仍待支付", "wrong amount"},
		{"amount", "paid", "does not count. The shop", "未计入订单。", "wrong amount"},
		{"", "paid", "could not be used", "未能使用", "could not be used"},
	} {
		m, to := confirmed(), ann()
		m.Event, to.Refund, to.Status = notify.EventRefundRequired, c.refund, c.status
		for locale, want := range map[string]string{English: c.en, Chinese: c.zh} {
			to.Locale = locale
			l, err := w.mail(m, to)
			require.NoError(t, err)
			require.Contains(t, l.text, want)
			require.Contains(t, l.html, want)
		}
		to.Locale = English
		short, err := w.text(m, to)
		require.NoError(t, err)
		require.Contains(t, short, c.sms)
	}
}
