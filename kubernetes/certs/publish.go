package certs

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// lookEvery is how often a replica looks at the webhook's configuration. Somebody
	// may have replaced it by one without a caBundle.
	lookEvery = 5 * time.Second
	// lookFor is the time-out of one look.
	lookFor = 10 * time.Second
)

var errNoCA = errors.New("the CA isn't made yet")

// publish keeps the CA in the caBundle until the context ends.
func (s *Source) publish(ctx context.Context) {
	rotated := make(chan struct{}, 1) // the library drops a notice if there is one
	s.authority.WatchRotation(rotated)
	defer s.authority.StopWatchingRotation(rotated)
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		err := s.look(ctx)
		for again := 0; apierrors.IsConflict(err) && again < 3; again++ { // another replica has just written
			err = s.look(ctx)
		}
		s.report(ctx, err)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-rotated:
		}
	}
}

// report logs a problem once.
func (s *Source) report(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return // the end isn't a problem
	}
	s.trust.mu.Lock()
	before := s.trust.problem
	s.trust.problem = err
	s.trust.mu.Unlock()
	switch {
	case errors.Is(err, errNoCA): // the library makes it in a moment
	case err != nil && (before == nil || before.Error() != err.Error()):
		s.options.Log.Error("the caBundle of the webhook can't be kept", slog.Any("error", err))
	case err == nil && before != nil:
		s.options.Log.Info("the caBundle of the webhook is right", slog.String("webhook_config", s.options.WebhookConfig))
	}
}

// look adds the CA to the caBundle, if it isn't there.
func (s *Source) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookFor)
	defer cancel()
	ca, err := s.readCA(ctx)
	if err != nil {
		return err
	}
	configs := s.client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	config, err := configs.Get(ctx, s.options.WebhookConfig, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return fmt.Errorf("there is no MutatingWebhookConfiguration %s: create it, or set --webhook-config", s.options.WebhookConfig)
	case err != nil:
		return fmt.Errorf("MutatingWebhookConfiguration %s: %w", s.options.WebhookConfig, err)
	}
	var change patch
	change.Metadata.ResourceVersion = config.ResourceVersion
	for i := range config.Webhooks {
		w := &config.Webhooks[i]
		if bundle := addTo(w.ClientConfig.CABundle, ca, time.Now()); !bytes.Equal(bundle, w.ClientConfig.CABundle) {
			fresh := patchWebhook{Name: w.Name}
			fresh.ClientConfig.CABundle = bundle
			change.Webhooks = append(change.Webhooks, fresh)
		}
	}
	if len(change.Webhooks) > 0 {
		text, err := json.Marshal(change)
		if err != nil {
			return err
		}
		// With the version, so that it fails if somebody has changed it since.
		if _, err := configs.Patch(ctx, s.options.WebhookConfig, types.StrategicMergePatchType, text, metav1.PatchOptions{FieldManager: "culvert-injector"}); err != nil {
			return fmt.Errorf("MutatingWebhookConfiguration %s: %w", s.options.WebhookConfig, err)
		}
		s.options.Log.Info("the CA was added to the caBundle", slog.String("webhook_config", s.options.WebhookConfig),
			slog.Time("not_after", ca.NotAfter))
	}
	s.trust.published(ca, len(change.Webhooks) > 0)
	return nil
}

// A patch is a strategic merge patch of caBundles.
type patch struct {
	Metadata struct {
		ResourceVersion string `json:"resourceVersion"`
	} `json:"metadata"`
	Webhooks []patchWebhook `json:"webhooks"`
}

type patchWebhook struct {
	Name         string `json:"name"`
	ClientConfig struct {
		CABundle []byte `json:"caBundle"`
	} `json:"clientConfig"`
}

func (s *Source) readCA(ctx context.Context) (*x509.Certificate, error) {
	secret, err := s.client.CoreV1().Secrets(s.options.Namespace).Get(ctx, s.options.Secret, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err): // the chart's Role doesn't let the library create it
		return nil, fmt.Errorf("there is no Secret %s/%s: apply the chart or install.yaml again", s.options.Namespace, s.options.Secret)
	case err != nil:
		return nil, fmt.Errorf("Secret %s/%s: %w", s.options.Namespace, s.options.Secret, err) //nolint:staticcheck // Kubernetes' word
	}
	for _, c := range certificates(secret.Data[corev1.TLSCertKey]) {
		return c, nil
	}
	return nil, errNoCA
}
