package gateway

import (
	"net/http"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"

	"sluice/api"
	"sluice/inventory"
)

func saleBodyOf(e *inventory.Entry, now time.Time) api.Sale {
	s := e.Sale
	return api.Sale{ID: s.ID, Title: s.Title, SKU: s.SKU, PriceCents: s.PriceCents, Currency: s.Currency,
		StockTotal: e.Stock.Total,
		Remaining:  e.Remaining(), PerUserLimit: s.PerUserLimit, StartsAt: api.FormatTime(s.Starts()),
		EndsAt: api.FormatTime(s.Ends()),
		State:  s.StateAt(now), ServerTime: api.FormatTime(now)}
}

// salesCache is the encoded list of sales, rebuilt at most once in a while for many readers.
type salesCache struct {
	list atomic.Pointer[api.SaleList]
	at   atomic.Int64
}

const salesFresh = 200 * time.Millisecond

func (g *Gateway) listSales(c *gin.Context) {
	now := g.SaleCache.Now()
	list := g.sales.list.Load()
	// After the clock was set back the age is negative.
	age := time.Duration(now.UnixNano() - g.sales.at.Load())
	if list == nil || age < 0 || age > salesFresh {
		list = &api.SaleList{Sales: []api.Sale{}}
		for _, e := range g.SaleCache.List() {
			list.Sales = append(list.Sales, saleBodyOf(e, now))
		}
		g.sales.list.Store(list)
		g.sales.at.Store(now.UnixNano())
	}
	c.Header("Cache-Control", "public, max-age=1")
	c.JSON(http.StatusOK, list)
}

func (g *Gateway) showSale(c *gin.Context) {
	entry, ok := g.sale(c)
	if !ok {
		return
	}
	c.Header("Cache-Control", "public, max-age=1")
	c.JSON(http.StatusOK, saleBodyOf(entry, g.SaleCache.Now()))
}

func (g *Gateway) openAPI(c *gin.Context) {
	c.Header("Cache-Control", "public, max-age=3600")
	c.Data(http.StatusOK, "application/json", api.OpenAPI())
}
