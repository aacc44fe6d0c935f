package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"sluice/cli/opsclient"
	"sluice/internal/money"
)

// print writes text to standard output.
func (c *cli) print(text string) error {
	if _, err := io.WriteString(c.out, text); err != nil {
		return fmt.Errorf("write to standard output: %w", err)
	}
	return nil
}

// printJSON writes value on one line.
func (c *cli) printJSON(value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return c.printRaw(text)
}

// printRaw writes the JSON of an answer without changing it.
func (c *cli) printRaw(text []byte) error {
	return c.print(strings.TrimRight(string(text), "\n") + "\n")
}

// table formats rows of cells in columns.
func table(rows ...[]string) string {
	var text bytes.Buffer
	t := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	_ = t.Flush() // a buffer never fails
	return text.String()
}

// escapeFormula keeps a spreadsheet from executing a cell. Cells may contain texts that users chose.
func escapeFormula(cell string) string {
	if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
		return "'" + cell
	}
	return cell
}

func printable(text string) string { return opsclient.Printable(text) }

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func number(n int64) string { return strconv.FormatInt(n, 10) }

func seconds(n float64) string { return fmt.Sprintf("%.1fs", n) }

func perSecond(n float64) string { return strings.TrimSuffix(fmt.Sprintf("%.1f", n), ".0") }

func amount(cents int64, currency string) string {
	return money.Format(cents, printable(currency))
}
