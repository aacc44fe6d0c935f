// Package yardstick has the programs with which Sluice is compared. Each does the least that such a program must do, as
// fast as we can make it.
package yardstick

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/gin-gonic/gin"
	"github.com/redis/go-redis/v9"
)

// order is the body of an order.
type order struct {
	Quantity int    `json:"quantity" binding:"required"`
	Email    string `json:"email"`
	Phone    string `json:"phone"`
}

type links struct {
	Self   string `json:"self"`
	Events string `json:"events"`
}

// accepted is a body like that of Sluice's 202: the same members, of the same sizes.
type accepted struct {
	OrderID    string `json:"order_id"`
	SaleID     string `json:"sale_id"`
	Status     string `json:"status"`
	Position   int64  `json:"position"`
	ETASeconds int64  `json:"eta_seconds"`
	Receipt    string `json:"receipt"`
	Links      links  `json:"links"`
}

// waiting is a body like that of Sluice's answer to a poll of a waiting order.
type waiting struct {
	OrderID    string `json:"order_id"`
	SaleID     string `json:"sale_id"`
	Status     string `json:"status"`
	Quantity   int    `json:"quantity"`
	Position   int64  `json:"position"`
	ETASeconds int64  `json:"eta_seconds"`
	AdmittedAt string `json:"admitted_at"`
	PriceCents int64  `json:"price_cents"`
	Currency   string `json:"currency"`
	Links      links  `json:"links"`
}

const (
	id      = "0191d5a2-7c3e-7b1f-9a44-5f2d8c6e1b03"
	receipt = "1.2n9c.1.1.lz3k8q2f.a1b2c3d4e5f60718.0123456789abcdefghijkl"
	refusal = `{"type":"urn:sluice:problem:sold_out","title":"Sold out","status":409,` +
		`"detail":"No unit is left. Units can come back when orders are cancelled.",` +
		`"code":"sold_out","request_id":"0123456789abcdef0123456789abcdef"}`
)

// Bare serves a Gin engine without middleware. It binds and answers JSON, or writes a static refusal for the sale
// "refused", and stores nothing.
func Bare() error {
	engine := newEngine()
	engine.POST("/v1/sales/:sale/orders", func(c *gin.Context) {
		var body order
		if err := c.ShouldBindJSON(&body); err != nil {
			c.Status(http.StatusBadRequest)
			return
		}
		answer(c, c.Param("sale"), id, 48211)
	})
	engine.GET("/v1/sales/:sale/orders/:id", func(c *gin.Context) {
		sale := c.Param("sale")
		self := "/v1/sales/" + sale + "/orders/" + c.Param("id")
		c.JSON(http.StatusOK, waiting{OrderID: c.Param("id"), SaleID: sale, Status: "queued", Quantity: 1,
			Position: 4821, ETASeconds: 4821,
			AdmittedAt: "2027-01-01T00:00:00.000Z", PriceCents: 9900, Currency: "CNY", Links: links{self,
				self + "/events"}})
	})
	return serve(engine)
}

// Static serves a Gin engine that refuses every order with the same bytes, without reading it.
func Static() error {
	engine, body := newEngine(), []byte(refusal)
	engine.POST("/v1/sales/:sale/orders", func(c *gin.Context) {
		c.Data(http.StatusConflict,
			"application/problem+json", body)
	})
	return serve(engine)
}

//go:embed admit.lua
var admitScript string

// Lua serves a Gin engine that calls Redis once for each order.
func Lua(addr string) error {
	client := redis.NewClient(&redis.Options{Addr: addr})
	defer client.Close()
	if err := client.Set(context.Background(), "stock", 1_000_000_000, 0).Err(); err != nil {
		return err
	}
	script := redis.NewScript(admitScript)
	engine := newEngine()
	engine.POST("/v1/sales/:sale/orders", func(c *gin.Context) {
		var body order
		if err := c.ShouldBindJSON(&body); err != nil {
			c.Status(http.StatusBadRequest)
			return
		}
		// The key identifies the shopper, because reading tokens is not measured here.
		user := c.GetHeader("Idempotency-Key")
		place, err := script.Run(c.Request.Context(), client, []string{"holders", "stock", "line"}, user, id+user,
			body.Quantity).Int64()
		switch {
		case err != nil:
			c.Status(http.StatusServiceUnavailable)
		case place < 0:
			c.Data(http.StatusConflict, "application/problem+json", []byte(refusal))
		default:
			answer(c, c.Param("sale"), id, place)
		}
	})
	return serve(engine)
}

func answer(c *gin.Context, sale, id string, position int64) {
	self := "/v1/sales/" + sale + "/orders/" + id
	c.JSON(http.StatusAccepted, accepted{OrderID: id, SaleID: sale, Status: "queued", Position: position,
		ETASeconds: position,
		Receipt:    receipt, Links: links{self, self + "/events"}})
}

func newEngine() *gin.Engine {
	gin.SetMode(gin.ReleaseMode)
	return gin.New()
}

// serve answers until SIGTERM. It prints its address on standard error.
func serve(handler http.Handler) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	// #nosec G112 -- only the benchmark talks to it, and a deadline for each request would slow it down
	server := &http.Server{Handler: handler}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	context.AfterFunc(ctx, func() { _ = server.Close() })
	fmt.Fprintf(os.Stderr, "listening %s\n", l.Addr())
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
