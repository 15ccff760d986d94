"""Answers of students to the exercises: right ones, each written in several ways, and wrong ones with what is said of them."""

import itertools
import linecache
import textwrap

import numpy as np

from vae_np.kernels.reference import sigmoid
from vae_np.study.exercises import KNOWN

COUNT = itertools.count()


def indented(body):
    """Lines as they stand in a function."""
    return textwrap.indent(textwrap.dedent(body).strip(), "    ")


def function_of(name, body):
    """The function with the parameters of an exercise and this body, whose source can be read."""
    source = f"def {name}({', '.join(KNOWN[name].parameters)}):\n{indented(body)}\n"
    file, names = f"<answer {next(COUNT)}>", {"np": np, "sigmoid": sigmoid}
    linecache.cache[file] = len(source), None, source.splitlines(keepends=True), file
    exec(compile(source, file, "exec"), names)
    return names[name]


RIGHT_ANSWERS = {
    "elbo_backward": [
        "return 1 / (len(nll) * n_examples), beta / (len(kl) * n_examples)",
        "dnll.fill(1 / nll.shape[0] / n_examples)\ndkl.fill(beta / kl.shape[0] / n_examples)",
        "dnll[:] = np.ones_like(nll) / nll.shape[0] / n_examples\ndkl[:] = beta * np.ones_like(kl) / kl.shape[0] / n_examples\nreturn dnll, dkl",
        """
        for l in range(nll.shape[0]):
            for b in range(nll.shape[1]):
                dnll[l, b] = 1 / n_examples / nll.shape[0]
        dkl[...] = np.full(kl.shape, beta / n_examples / kl.shape[0])
        """,
    ],
    "bernoulli_nll_backward": [
        "dlogits[...] = dnll[:, :, None] * (sigmoid(logits) - x)",
        "return dnll[:, :, np.newaxis] * (1 / (1 + np.exp(-logits)) - x)",
        "return np.einsum('lb,lbd->lbd', dnll, sigmoid(logits) - x), doutput_logvar",
        "dlogits[...] = dnll[..., None] * ((1 - x) * sigmoid(logits) - x * (1 - sigmoid(logits)))\nreturn dlogits, doutput_logvar",
        "return dnll[:, :, None] * (np.exp(logits) / (1 + np.exp(logits)) - x)",
        "return (dnll.T * (sigmoid(logits) - x).T).T",
        "doutput_logvar[...] = 0\nreturn dnll[:, :, None] * ((1 + np.tanh(logits / 2)) / 2 - x)",
        """
        L, B, D = logits.shape
        for l in range(L):
            for b in range(B):
                for d in range(D):
                    dlogits[l, b, d] = dnll[l, b] * (1 / (1 + np.exp(-logits[l, b, d])) - x[b, d])
        """,
    ],
    "gaussian_nll_backward": [
        """
        dmean[...] = dnll[:, :, None] * (mean - x) / np.exp(output_logvar)
        d = dnll[:, :, None] / 2 * (1 - (x - mean) ** 2 / np.exp(output_logvar))
        if output_logvar.shape[-1] == 1:
            d = d.sum(axis=-1, keepdims=True)
        doutput_logvar[...] = d
        """,
        """
        precision = np.exp(-output_logvar)
        g = dnll[..., None] * 0.5 * (np.ones_like(mean) - (mean - x) ** 2 * precision)
        return dnll[..., None] * (mean - x) * precision, g if doutput_logvar.shape == mean.shape else g.sum(-1, keepdims=True)
        """,
        """
        s2 = np.exp(output_logvar)
        np.einsum('lb,lbd->lbd', dnll, (mean - x) / s2, out=dmean)
        g = 0.5 * np.einsum('lb,lbd->lbd', dnll, 1 - np.square(x - mean) / s2)
        doutput_logvar[...] = g if g.shape == doutput_logvar.shape else np.einsum('lbd->lb', g)[:, :, None]
        return dmean, doutput_logvar
        """,
        """
        doutput_logvar[...] = 0
        for l in range(mean.shape[0]):
            for b in range(mean.shape[1]):
                for d in range(mean.shape[2]):
                    k = d if output_logvar.shape[2] > 1 else 0
                    precision = np.exp(-output_logvar[l, b, k])
                    dmean[l, b, d] = dnll[l, b] * (mean[l, b, d] - x[b, d]) * precision
                    doutput_logvar[l, b, k] += dnll[l, b] * (1 - (x[b, d] - mean[l, b, d]) ** 2 * precision) / 2
        """,
    ],
    "affine_backward": [
        "dx[...] = dy @ W.T",
        "return dy @ W.T",
        "return np.einsum('bh,dh->bd', dy, W)",
        "return (W @ dy.T).T",
        "np.dot(dy, W.T, out=dx)\nreturn dx",
        """
        for b in range(len(dy)):
            for i in range(W.shape[0]):
                dx[b, i] = sum(dy[b, o] * W[i, o] for o in range(W.shape[1]))
        """,
        "dx[...] = np.tensordot(dy, W, axes=([1], [1]))",
        "return np.sum(dy[:, None, :] * W[None, :, :], axis=-1)",
    ],
    "affine_gradients": [
        "dW[...] = x.T @ dy + l2 * W\ndb[...] = dy.sum(axis=0)",
        "return x.T @ dy + l2 * W, dy.sum(0)",
        "return np.einsum('bd,bh->dh', x, dy) + l2 * W, np.einsum('bh->h', dy)",
        "return (dy.T @ x + l2 * W.T).T, np.ones(len(dy)) @ dy",
        """
        dW[...] = l2 * W
        db[...] = 0
        for b in range(len(x)):
            dW += np.outer(x[b], dy[b])
            db += dy[b]
        return dW, db
        """,
        "dW[...] = x.reshape(-1, x.shape[-1]).T @ dy.reshape(-1, dy.shape[-1])\ndW += l2 * W\nnp.sum(dy, axis=0, out=db)",
    ],
    "relu_backward": [
        "dh[...] = dh * (h > 0)",
        "return np.where(h > 0, dh, 0)",
        "dh[h <= 0] = 0",
        "dh *= np.sign(h)\nreturn dh",
        "return np.heaviside(h, 0) * dh",
        "dh[h == 0] = 0.0\nreturn dh",
        """
        for b in range(h.shape[0]):
            for i in range(h.shape[1]):
                if h[b, i] <= 0:
                    dh[b, i] = 0
        """,
    ],
    "tanh_backward": [
        "return dh * (1 - h**2)",
        "dh *= 1 - h * h",
        "dh[...] = dh * (1 - h) * (1 + h)",
        "return dh - dh * np.square(h)",
        "return np.einsum('bi,bi->bi', dh, 1 - h**2)",
        """
        dy = np.empty_like(dh)
        for i in np.ndindex(dh.shape):
            dy[i] = dh[i] * (1 - h[i] ** 2)
        return dy
        """,
        "return dh / np.cosh(np.arctanh(h)) ** 2",
    ],
    "softplus_backward": [
        "return dh * (1 - np.exp(-h))",
        "dh *= -np.expm1(-h)",
        "y_ = np.log(np.exp(h) - 1)\nreturn dh / (1 + np.exp(-y_))",
        "dh[...] = dh * (np.exp(h) - 1) / np.exp(h)",
        "dh -= dh * np.exp(-h)\nreturn dh",
        """
        for b in range(len(h)):
            for i in range(len(h[b])):
                dh[b, i] *= 1 - np.exp(-h[b, i])
        """,
    ],
    "gaussian_kl_backward": [
        "dmu[...] = dkl[0][:, None] * mu\ndlogvar[...] = dkl[0][:, None] * (np.exp(logvar) - 1) / 2",
        "return dz, dkl[0][:, None] * mu, dkl[0][:, None] * np.expm1(logvar) / 2",
        "dmu[:] = dkl.T * mu\ndlogvar[:] = 0.5 * dkl.T * (np.exp(logvar) - 1)\nreturn dz, dmu, dlogvar",
        "np.einsum('kb,bz->bz', dkl, mu, out=dmu)\nnp.einsum('kb,bz->bz', dkl, (np.exp(logvar) - 1) / 2, out=dlogvar)",
        """
        for b in range(len(mu)):
            for j in range(mu.shape[1]):
                dmu[b, j] = dkl[0, b] * mu[b, j]
                dlogvar[b, j] = dkl[0, b] * 0.5 * (np.exp(logvar[b, j]) - 1)
        """,
        "std = np.exp(logvar / 2)\ndsigma = dkl[0][:, None] * (std - 1 / std)\ndmu[...] = dkl[0][:, None] * mu\ndlogvar[...] = dsigma * std / 2",
    ],
    "reparameterize_backward_add": [
        "dmu += dz.sum(axis=0)\ndlogvar += (dz * eps).sum(axis=0) * np.exp(logvar / 2) / 2",
        "return dmu + dz.sum(0), dlogvar + (dz * eps * np.exp(0.5 * logvar) / 2).sum(0)",
        "dmu[...] += np.einsum('lbz->bz', dz)\ndlogvar[...] += np.einsum('lbz,lbz,bz->bz', dz, eps, np.exp(logvar / 2)) / 2\nreturn dmu, dlogvar",
        """
        for l in range(len(dz)):
            dmu += dz[l]
            dlogvar += dz[l] * eps[l] * np.sqrt(np.exp(logvar)) / 2
        """,
        "z = mu + np.exp(logvar / 2) * eps\ndmu += dz.sum(0)\ndlogvar += (dz * (z - mu)).sum(0) / 2",
        "dmu = dmu + np.sum(dz, 0)\ndlogvar = dlogvar + np.sum(dz * eps, 0) * np.exp(logvar / 2) * 0.5\nreturn dmu, dlogvar",
    ],
    "sampled_kl_backward": [
        "dz += dkl[:, :, None] * z\ndmu[...] = 0\ndlogvar[...] = -dkl.sum(axis=0)[:, None] / 2",
        "return dz + dkl[:, :, None] * z, np.zeros_like(mu), np.repeat(-dkl.sum(0)[:, None] / 2, mu.shape[1], axis=1)",
        "dz += np.einsum('lb,lbz->lbz', dkl, z)\ndmu.fill(0)\ndlogvar[...] = np.einsum('lb->b', dkl)[:, None] * -0.5\nreturn dz, dmu, dlogvar",
        """
        dmu[...] = 0
        dlogvar[...] = 0
        for l in range(len(z)):
            for b in range(len(mu)):
                dz[l, b] += dkl[l, b] * (mu[b] + np.exp(logvar[b] / 2) * eps[l, b])
                dlogvar[b] -= dkl[l, b] / 2
        """,
        "return dz + dkl[..., None] * z, 0 * mu, -0.5 * dkl.sum(0)[:, None]",
    ],
    "affine_backward_add": [
        "dx += dy @ W.T",
        "return dx + dy @ W.T",
        "dx += np.einsum('bh,dh->bd', dy, W)\nreturn dx",
        "dx[...] = dx + np.dot(W, dy.T).T",
        """
        for b in range(len(dy)):
            for o in range(dy.shape[1]):
                dx[b] += dy[b, o] * W[:, o]
        """,
    ],
    "iwae_backward": [
        """
        log_w = -(nll + beta * kl)
        w = np.exp(log_w - log_w.max(axis=0))
        dnll[...] = w / w.sum(axis=0) / n_examples
        dkl[...] = beta * dnll
        """,
        "w = np.exp(-nll - beta * kl)\nw = w / w.sum(0)\nreturn w / n_examples, beta * w / n_examples",
        "from scipy.special import softmax\ndnll[...] = softmax(-(nll + beta * kl), axis=0) / n_examples\nreturn dnll, beta * dnll",
        """
        for b in range(nll.shape[1]):
            w = np.exp((nll[:, b] + beta * kl[:, b]).min() - nll[:, b] - beta * kl[:, b])
            dnll[:, b] = w / sum(w) / n_examples
            dkl[:, b] = beta * dnll[:, b]
        """,
        "log_w = -nll - beta * kl\nlog_w = log_w - np.logaddexp.reduce(log_w, axis=0)\nreturn np.exp(log_w) / n_examples, np.exp(log_w) * beta / n_examples",
    ],
    "adam": [
        """
        m[...] = beta1 * m + (1 - beta1) * g
        v[...] = beta2 * v + (1 - beta2) * g**2
        p -= learning_rate * (m / (1 - beta1**step)) / (np.sqrt(v / (1 - beta2**step)) + epsilon)
        """,
        """
        m += (1 - beta1) * (g - m)
        v += (1 - beta2) * (g * g - v)
        return p - learning_rate * m / (1 - beta1**step) / (np.sqrt(v / (1 - beta2**step)) + epsilon)
        """,
        """
        for i in range(len(p)):
            m[i] = beta1 * m[i] + (1 - beta1) * g[i]
            v[i] = beta2 * v[i] + (1 - beta2) * g[i] ** 2
            p[i] = p[i] - learning_rate * m[i] / (1 - beta1**step) / ((v[i] / (1 - beta2**step)) ** 0.5 + epsilon)
        return p
        """,
        """
        new_m, new_v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
        rate = learning_rate * np.sqrt(1 - beta2**step) / (1 - beta1**step)
        return p - rate * new_m / (np.sqrt(new_v) + epsilon * np.sqrt(1 - beta2**step)), new_m, new_v
        """,
    ],
    "backward": [
        """
        dnll, dkl = bound_backward(a.nll, a.kl, beta, n_examples, d.nll, d.kl)
        doutput, doutput_logvar = likelihood_nll_backward(dnll, a.output, a.output_logvar, a.x, d.output, d.output_logvar)
        dh = affine_backward(doutput, p.output.W, d.decoder[n_hidden])
        dh = output_logvar_layer_backward_add(doutput_logvar, p.output_logvar.W, dh)
        for i in reversed(range(n_hidden)):
            dy = activation_backward(dh, a.decoder_y[i], a.decoder[i + 1])
            dh = affine_backward(dy, p.decoder[i].W, d.decoder[i])
        divergence_backward(dkl, a.mu, a.logvar, a.eps, a.z, d.z, d.mu, d.logvar)
        reparameterize_backward_add(d.z, a.mu, a.logvar, a.eps, d.mu, d.logvar)
        affine_backward(d.mu, p.mu.W, d.encoder[n_hidden])
        affine_backward_add(d.logvar, p.logvar.W, d.encoder[n_hidden])
        for i in reversed(range(n_hidden)):
            activation_backward(d.encoder[i + 1], a.encoder_y[i], a.encoder[i + 1])
            if i:
                affine_backward(d.encoder[i + 1], p.encoder[i].W, d.encoder[i])
        """,
        """
        bound_backward(a.nll, a.kl, beta, n_examples, d.nll, d.kl)
        likelihood_nll_backward(d.nll, a.output, a.output_logvar, a.x, d.output, d.output_logvar)
        affine_backward(d.output, p.output.W, d.decoder[-1])
        output_logvar_layer_backward_add(d.output_logvar, p.output_logvar.W, d.decoder[-1])
        for i in range(n_hidden - 1, -1, -1):
            activation_backward(d.decoder[i + 1], a.decoder_y[i], a.decoder[i + 1])
            affine_backward(d.decoder[i + 1], p.decoder[i].W, d.decoder[i])
        divergence_backward(d.kl, a.mu, a.logvar, a.eps, a.z, d.z, d.mu, d.logvar)
        d.mu[...] += d.z.sum(axis=0)
        d.logvar[...] += (d.z * a.eps).sum(axis=0) * np.exp(a.logvar / 2) / 2
        d.encoder[n_hidden][...] = d.mu @ p.mu.W.T + d.logvar @ p.logvar.W.T
        for i in range(n_hidden - 1, -1, -1):
            activation_backward(d.encoder[i + 1], a.encoder_y[i], a.encoder[i + 1])
            affine_backward(d.encoder[i + 1], p.encoder[i].W, d.encoder[i])
        """,
        """
        L = len(a.z)
        bound_backward(a.nll, a.kl, beta, n_examples, d.nll, d.kl)
        likelihood_nll_backward(d.nll, a.output, a.output_logvar, a.x, d.output, d.output_logvar)
        dh = affine_backward(d.output, p.output.W, d.decoder[n_hidden])
        output_logvar_layer_backward_add(d.output_logvar, p.output_logvar.W, dh)
        i = n_hidden
        while i > 0:
            activation_backward(dh, a.decoder_y[i - 1], a.decoder[i])
            dh = affine_backward(dh, p.decoder[i - 1].W, d.decoder[i - 1])
            i = i - 1
        divergence_backward(d.kl, a.mu, a.logvar, a.eps, a.z, dh, d.mu, d.logvar)
        for l in range(L):
            reparameterize_backward_add(dh[l : l + 1], a.mu, a.logvar, a.eps[l : l + 1], d.mu, d.logvar)
        dh = affine_backward(d.logvar, p.logvar.W, d.encoder[n_hidden])
        affine_backward_add(d.mu, p.mu.W, dh)
        for i in range(n_hidden, 0, -1):
            activation_backward(d.encoder[i], a.encoder_y[i - 1], a.encoder[i])
            if i > 1:
                affine_backward(d.encoder[i], p.encoder[i - 1].W, d.encoder[i - 1])
        """,
    ],
    "weight_gradients": [
        """
        for i in range(n_hidden):
            affine_gradients(a.encoder[i], d.encoder[i + 1], p.encoder[i].W, l2, g.encoder[i].W, g.encoder[i].b)
            affine_gradients(a.decoder[i], d.decoder[i + 1], p.decoder[i].W, l2, g.decoder[i].W, g.decoder[i].b)
        affine_gradients(a.encoder[-1], d.mu, p.mu.W, l2, g.mu.W, g.mu.b)
        affine_gradients(a.encoder[-1], d.logvar, p.logvar.W, l2, g.logvar.W, g.logvar.b)
        affine_gradients(a.decoder[-1], d.output, p.output.W, l2, g.output.W, g.output.b)
        output_logvar_layer_gradients(
            a.decoder[-1], d.output_logvar, p.output_logvar.W, l2, g.output_logvar.W, g.output_logvar.b
        )
        """,
        """
        for side in ("encoder", "decoder"):
            h, dy, W, dW = (getattr(tree, side) for tree in (a, d, p, g))
            for i in range(n_hidden):
                affine_gradients(h[i], dy[i + 1], W[i].W, l2, dW[i].W, dW[i].b)
        g.mu.W[...] = a.encoder[n_hidden].T @ d.mu + l2 * p.mu.W
        g.mu.b[...] = d.mu.sum(axis=0)
        g.logvar.W[...] = a.encoder[n_hidden].T @ d.logvar + l2 * p.logvar.W
        g.logvar.b[...] = d.logvar.sum(axis=0)
        g.output.W[...] = np.einsum("lbh,lbd->hd", a.decoder[n_hidden], d.output) + l2 * p.output.W
        g.output.b[...] = d.output.sum(axis=(0, 1))
        output_logvar_layer_gradients(
            a.decoder[n_hidden], d.output_logvar, p.output_logvar.W, l2, g.output_logvar.W, g.output_logvar.b
        )
        """,
        """
        def layer(x, dy, name):
            of = getattr(p, name)
            to = getattr(g, name)
            affine_gradients(x, dy, of.W, l2, to.W, to.b)
        layer(a.encoder[n_hidden], d.mu, "mu")
        layer(a.encoder[n_hidden], d.logvar, "logvar")
        layer(a.decoder[n_hidden], d.output, "output")
        output_logvar_layer_gradients(a.decoder[n_hidden], d.output_logvar, p.output_logvar.W, l2, *g.output_logvar)
        for i in range(n_hidden):
            affine_gradients(a.encoder[i], d.encoder[i + 1], p.encoder[i].W, l2, *g.encoder[i])
            affine_gradients(a.decoder[i], d.decoder[i + 1], p.decoder[i].W, l2, *g.decoder[i])
        """,
    ],
}

WRONG_ANSWERS = [  # (exercise, what was written, a pattern of what is said)
    ("elbo_backward", "return 1 / n_examples, beta / (len(kl) * n_examples)", "dnll: The mean over the L samples is missing"),
    ("elbo_backward", "return 1 / (len(nll) * n_examples), 1 / (len(kl) * n_examples)", "dkl: The factor beta is missing"),
    (
        "elbo_backward",
        "return 1 / (len(nll) * n_examples), beta / (len(nll) * n_examples)",
        "dkl: It is divided by L. There are K",
    ),
    (
        "elbo_backward",
        "return 1 / (len(nll) * n_examples), beta / n_examples",
        "not where every sample has a kl.*\n.*mean over the K kl",
    ),
    ("elbo_backward", "return 1 / nll.size, beta / kl.size", "dnll: It is divided by B. The loss is the mean over n_examples"),
    ("elbo_backward", "return beta / (len(nll) * n_examples), beta / (len(kl) * n_examples)", "dnll: beta weighs the KL only"),
    ("elbo_backward", "return -1 / (len(nll) * n_examples), beta / (len(kl) * n_examples)", "dnll: .*-1 times"),
    ("elbo_backward", "return np.ones_like(nll), beta * np.ones_like(kl)", "dnll: .*95 times.*samples.*batch"),
    ("bernoulli_nll_backward", "dlogits[...] = dnll[:, :, None] * (x - sigmoid(logits))", "dlogits: .*-1 times"),
    ("bernoulli_nll_backward", "dlogits[...] = sigmoid(logits) - x", "dlogits: The factor dnll is missing: twice the dnll"),
    (
        "bernoulli_nll_backward",
        "dlogits[...] = dnll[:, :, None] * (sigmoid(logits) - x) / x.shape[1]",
        "dlogits: It is divided by D",
    ),
    (
        "bernoulli_nll_backward",
        "dlogits[...] = dnll[:, :, None] * (sigmoid(logits) - x) / len(x)",
        "dlogits: It is divided by B",
    ),
    (
        "bernoulli_nll_backward",
        "dlogits[...] = dnll[:, :, None] * (logits - x)",
        "dlogits: The logits stand where the probability",
    ),
    ("bernoulli_nll_backward", "dlogits[...] = dnll[:, :, None] * sigmoid(logits)", "dlogits: x is missing"),
    (
        "bernoulli_nll_backward",
        "s = sigmoid(logits)\ndlogits[...] = dnll[:, :, None] * (s - x) * s * (1 - s)",
        "dlogits: The slope of the sigmoid is a factor too much",
    ),
    (
        "bernoulli_nll_backward",
        "s = sigmoid(logits)\ndlogits[...] = dnll[:, :, None] * (s - x) / (s * (1 - s))",
        "dlogits: This is the derivative by the mean",
    ),
    ("bernoulli_nll_backward", "dlogits[...] = dnll * (sigmoid(logits) - x)", r"shapes do not fit: dnll is \(L, B\)"),
    (
        "bernoulli_nll_backward",
        "dlogits = dnll[:, :, None] * (sigmoid(logits) - x)",
        r"dlogits: It was never filled. `dlogits = ..` gives the name",
    ),
    ("bernoulli_nll_backward", "dlogits += dnll[:, :, None] * (sigmoid(logits) - x)", r"dlogits: .*`\+=` stands where `=`"),
    (
        "bernoulli_nll_backward",
        "dlogits[0] = dnll[0, :, None] * (sigmoid(logits[0]) - x)",
        "dlogits: 308 of 385 elements were never filled",
    ),
    (
        "bernoulli_nll_backward",
        "return dnll[:, :, None] * np.where(x > 0.5, sigmoid(logits) - 1, sigmoid(logits))",
        "dlogits: x is rounded",
    ),
    ("bernoulli_nll_backward", "return dnll[:, :, None] * (np.exp(logits) - x)", r"dlogits: exp\(logits\) are the odds"),
    ("bernoulli_nll_backward", "return dnll[:, :, None] * (sigmoid(logits) - x) * 2", "dlogits: Every element is twice"),
    (
        "bernoulli_nll_backward",
        "return dnll[:, :, None] * (sigmoid(logits) - x).mean(axis=-1, keepdims=True)",
        "dlogits: .*mean over",
    ),
    ("bernoulli_nll_backward", "dnll *= 2\nreturn dnll[:, :, None] * (sigmoid(logits) - x)", "dnll: It has been changed"),
    (
        "bernoulli_nll_backward",
        "return -dnll[:, :, None] * (x * sigmoid(logits) - (1 - x) * sigmoid(-logits))",
        "is the probability of a 0",
    ),
    (
        "gaussian_nll_backward",
        "return dnll[..., None] * (mean - x), dnll[..., None] / 2 * (1 - (x - mean) ** 2 * np.exp(-output_logvar))",
        "dmean: The division by the variance is missing",
    ),
    (
        "gaussian_nll_backward",
        "s = np.exp(output_logvar / 2)\nreturn dnll[..., None] * (mean - x) / s, dnll[..., None] / 2 * (1 - (x - mean) ** 2 / s**2)",
        "dmean: It is divided by the standard deviation",
    ),
    (
        "gaussian_nll_backward",
        "s2 = np.exp(output_logvar)\nreturn dnll[..., None] * (mean - x) / s2, dnll[..., None] * (1 - (x - mean) ** 2 / s2)",
        "doutput_logvar: The 1/2 of the nll is missing",
    ),
    (
        "gaussian_nll_backward",
        "s2 = np.exp(output_logvar)\nreturn dnll[..., None] * (mean - x) / s2, dnll[..., None] / 2 * (1 + (x - mean) ** 2 / s2)",
        "doutput_logvar: The sign of the slope of exp",
    ),
    (
        "gaussian_nll_backward",
        "s2 = np.exp(output_logvar)\nreturn dnll[..., None] * (mean - x) / s2, -dnll[..., None] / 2 * (x - mean) ** 2 / s2",
        "doutput_logvar: The slope of the term output_logvar itself is missing",
    ),
    (
        "gaussian_nll_backward",
        "s2 = np.exp(output_logvar)\ndmean[...] = dnll[..., None] * (mean - x) / s2\ndoutput_logvar[...] = dnll[..., None] / 2 * (1 - (x - mean) ** 2 / s2)",
        r"not where all inputs share.*\n.*\(L, B, D\).*sum over axis 2",
    ),
    (
        "gaussian_nll_backward",
        "s2 = np.exp(output_logvar)\nt = dnll[..., None] / 2 * (1 - (x - mean) ** 2 / s2)\nreturn dnll[..., None] * (mean - x) / s2, t if t.shape == doutput_logvar.shape else t.mean(axis=-1, keepdims=True)",
        "doutput_logvar: A mean over the inputs",
    ),
    ("affine_backward", "dx[...] = dy @ W", r"shapes do not fit: dy is \(B, H\), W is \(D, H\)"),
    ("affine_backward", "dx = dy @ W.T", "dx: It was never filled. `dx = ..` gives"),
    ("affine_backward", "dx[...] = dy @ W.T / len(dy)", "dx: It is divided by B"),
    ("affine_backward", "return W @ dy.T", "dx: .*(transposed|axes)"),
    ("affine_backward", "dx[...] = -dy @ W.T", "dx: .*-1 times"),
    ("affine_backward", "dx += dy @ W.T", r"dx: .*`\+=` stands where"),
    ("affine_backward", "return dy @ np.linalg.pinv(W)", "dx: The inverse of W"),
    ("affine_backward", "return np.repeat(dy.sum(1, keepdims=True), len(W), 1)", "dx: W is missing"),
    ("affine_backward", "return np.ones_like(dy) @ W.T", "dx: The factor dy is missing"),
    ("affine_backward", "dx[:, 0] = (dy @ W.T)[:, 0]", "dx: 70 of 77 elements were never filled"),
    ("affine_gradients", "return x.T @ dy, dy.sum(0)", "dW: The derivative of the penalty on large weights is missing"),
    ("affine_gradients", "return x.T @ dy + l2 / 2 * W, dy.sum(0)", "dW: The derivative of the penalty is halved"),
    ("affine_gradients", "return x.T @ dy + l2 * W**2, dy.sum(0)", "dW: The weights are squared"),
    ("affine_gradients", "return x.T @ dy / len(x) + l2 * W, dy.sum(0)", "dW: It is divided by B"),
    ("affine_gradients", "return (x.T @ dy + l2 * W) / len(x), dy.sum(0)", "dW: .*1/7"),
    ("affine_gradients", "return x.T @ dy - l2 * W, dy.sum(0)", "dW: The derivative of the penalty has the wrong sign"),
    ("affine_gradients", "return x.T @ dy + l2 * W, dy.mean(axis=0)", "db: It is divided by B"),
    ("affine_gradients", "return dy.T @ x + l2 * W.T, dy.sum(0)", "dW: .*(transposed|axes)"),
    ("affine_gradients", "return x.T @ dy + l2 * W, dy.sum(0) + l2", "db: The biases are not decayed"),
    ("affine_gradients", "return x.T @ dy + l2 * W, dy.sum()", "db: The sum is over everything"),
    ("affine_gradients", "dW[...] = x @ dy", r"shapes do not fit: x is \(B, D\), dy is \(B, H\)"),
    ("affine_gradients", "return x.T @ dy + l2 * W, dy", r"db: .*sum over axis 0"),
    ("affine_gradients", "dW[...] = x.T @ dy + l2 * W", "db: It was never filled"),
    ("affine_gradients", "dW[...] = x.T @ dy\nW *= 1 - l2\ndb[...] = dy.sum(0)", "W: It has been changed"),
    ("relu_backward", "return np.where(dh > 0, dh, 0)", "dh: It is not linear in dh"),
    ("relu_backward", "return dh", "dh: (Nothing has changed|Everything passes)"),
    ("relu_backward", "return np.where(h >= 0, dh, 0)", "dh: (Nothing has changed|Everything passes)"),
    ("relu_backward", "return (h > 0) * 1.0", "dh: The factor dh is missing"),
    ("relu_backward", "return h * dh", "dh: h is a factor too much"),
    ("relu_backward", "return np.where(h > 0, 0, dh)", "dh: The two cases are exchanged"),
    ("relu_backward", "return np.where(h > 0, dh, 0.01 * dh)", "dh: A hundredth passes"),
    ("relu_backward", "return np.where(h > 1, dh, 0)", "dh: The slope changes where h is above 1"),
    ("relu_backward", "return np.where(y > 0, dh, 0)", "shapes do not fit"),
    ("relu_backward", "return np.maximum(h, 0)", "dh: h stands where dh is meant"),
    ("tanh_backward", "return dh * (1 - h)", "dh: The square of h is missing"),
    ("tanh_backward", "return dh * (1 - np.tanh(h) ** 2)", "dh: tanh is taken twice"),
    ("tanh_backward", "return 1 - h**2", "dh: The factor dh is missing"),
    ("tanh_backward", "return dh * h * (1 - h)", "dh: This is the slope of the sigmoid"),
    ("tanh_backward", "return dh * (1 + h**2)", "dh: The sign of the square is wrong"),
    ("tanh_backward", "return dh / np.cosh(h) ** 2", "dh: tanh is taken twice"),
    ("tanh_backward", "return dh - h**2", "dh: The factor dh is missing in one place"),
    ("softplus_backward", "return dh * sigmoid(h)", "dh: The slope is the sigmoid of y, and h is not y"),
    ("softplus_backward", "return dh * np.exp(-h)", "dh: This is 1 minus the slope"),
    ("softplus_backward", "return dh * (1 - np.exp(h))", "dh: The sign in the exponent is wrong"),
    ("softplus_backward", "return dh * (np.exp(h) - 1)", r"dh: This is exp\(y\)"),
    (
        "softplus_backward",
        "return dh * np.where(h > 0, 1, 0)",
        "Nothing has changed|slope of softplus is missing|slope of the rectifier",
    ),
    (
        "gaussian_kl_backward",
        "return dz, dkl[0][:, None] * mu, dkl[0][:, None] * (np.exp(logvar / 2) - 1) / 2",
        "dlogvar: A standard deviation stands",
    ),
    (
        "gaussian_kl_backward",
        "return dz, dkl[0][:, None] * mu, dkl[0][:, None] * (np.exp(logvar) + 1) / 2",
        "dlogvar: The slope of the term -logvar has the wrong sign",
    ),
    (
        "gaussian_kl_backward",
        "return dz, dkl[0][:, None] * mu, dkl[0][:, None] * (np.exp(logvar) - 1)",
        "dlogvar: It counts twice",
    ),
    (
        "gaussian_kl_backward",
        "return dz, dkl[0][:, None] * mu, dkl[0][:, None] * np.exp(logvar) / 2",
        "dlogvar: The slope of the term -logvar is missing",
    ),
    (
        "gaussian_kl_backward",
        "return dz, dkl[0][:, None] * mu, dkl[0][:, None] * (1 - np.exp(logvar)) / 2",
        "dlogvar: .*(-1 times|sign)",
    ),
    ("gaussian_kl_backward", "return dz, mu, (np.exp(logvar) - 1) / 2", "dmu: The factor dkl is missing"),
    (
        "gaussian_kl_backward",
        "return dz, 2 * dkl[0][:, None] * mu, dkl[0][:, None] * (np.exp(logvar) - 1) / 2",
        "dmu: It counts twice",
    ),
    (
        "gaussian_kl_backward",
        "return 0 * dz, dkl[0][:, None] * mu, dkl[0][:, None] * (np.exp(logvar) - 1) / 2",
        "dz: What came through the decoder is lost",
    ),
    (
        "gaussian_kl_backward",
        "return dz + dkl[0][:, None] * z, dkl[0][:, None] * mu, dkl[0][:, None] * (np.exp(logvar) - 1) / 2",
        "dz: The KL of the samples",
    ),
    (
        "gaussian_kl_backward",
        "s = np.exp(logvar / 2)\nreturn dz, dkl[0][:, None] * mu, dkl[0][:, None] * (s - 1 / s)",
        "dlogvar: This is the derivative by the standard deviation",
    ),
    (
        "gaussian_kl_backward",
        "return dz, dkl[0][:, None] * mu, dkl[0][:, None] * (logvar - 1) / 2",
        "dlogvar: The exp is missing",
    ),
    (
        "gaussian_kl_backward",
        "dmu += dkl[0][:, None] * mu\ndlogvar += dkl[0][:, None] * (np.exp(logvar) - 1) / 2",
        r"dmu: .*`\+=` stands",
    ),
    ("gaussian_kl_backward", "return dkl[0][:, None] * mu", "It returns 1 of the arrays"),
    (
        "gaussian_kl_backward",
        "return dz, dkl[0][:, None] * z.mean(0), dkl[0][:, None] * (np.exp(logvar) - 1) / 2",
        "dmu: z stands where mu",
    ),
    (
        "reparameterize_backward_add",
        "dmu += dz\ndlogvar += dz * eps * np.exp(logvar / 2) / 2",
        r"side is \(L, B, Z\).*sum over axis 0",
    ),
    (
        "reparameterize_backward_add",
        "dmu += dz.mean(axis=0)\ndlogvar += (dz * eps).sum(axis=0) * np.exp(logvar / 2) / 2",
        "dmu: It is divided by L",
    ),
    (
        "reparameterize_backward_add",
        "dmu += dz.sum(axis=0)\ndlogvar += (dz * eps).sum(axis=0) * np.exp(logvar / 2)",
        "dlogvar: It is twice what is to be added",
    ),
    (
        "reparameterize_backward_add",
        "dmu += dz.sum(axis=0)\ndlogvar += (dz * eps).sum(axis=0) * np.exp(logvar) / 2",
        "dlogvar: A variance stands where a standard deviation",
    ),
    (
        "reparameterize_backward_add",
        "dmu[...] = dz.sum(axis=0)\ndlogvar[...] = (dz * eps).sum(axis=0) * np.exp(logvar / 2) / 2",
        "dmu: It replaces what stood there.*\n.*dlogvar: It replaces",
    ),
    (
        "reparameterize_backward_add",
        "dmu += dz.sum(axis=0)\ndlogvar += dz.sum(axis=0) * np.exp(logvar / 2) / 2",
        "dlogvar: eps is missing",
    ),
    (
        "reparameterize_backward_add",
        "dmu += dz.sum(axis=0)\ndlogvar += dz.sum(axis=0) * eps.sum(axis=0) * np.exp(logvar / 2) / 2",
        "dlogvar: The sums are taken before the product",
    ),
    (
        "reparameterize_backward_add",
        "dmu += dz.sum(axis=0)\ndlogvar -= (dz * eps).sum(axis=0) * np.exp(logvar / 2) / 2",
        "dlogvar: The sign of what is added",
    ),
    (
        "reparameterize_backward_add",
        "dmu += dz[0]\ndlogvar += (dz * eps)[0] * np.exp(logvar / 2) / 2",
        "dmu: Only one of the L samples",
    ),
    (
        "reparameterize_backward_add",
        "dmu += dz.sum(axis=0)\ndlogvar += (dz * eps).sum(axis=0) / 2",
        "dlogvar: The standard deviation is missing",
    ),
    ("reparameterize_backward_add", "dmu += dz.sum(axis=0)", "dlogvar: Nothing has changed in it. The path through z"),
    (
        "reparameterize_backward_add",
        "dmu = dmu + dz.sum(axis=0)\ndlogvar = dlogvar + (dz * eps).sum(axis=0) * np.exp(logvar / 2) / 2",
        "dmu: Nothing has changed in it. `dmu = ..` gives",
    ),
    (
        "reparameterize_backward_add",
        "dz *= eps\ndmu += dz.sum(axis=0)\ndlogvar += dz.sum(axis=0) * np.exp(logvar / 2) / 2",
        "dz: It has been changed",
    ),
    (
        "reparameterize_backward_add",
        "dmu += dz.sum(axis=0)\ndlogvar[...] = (dz * eps).sum(axis=0) * np.exp(logvar / 2)",
        "dlogvar: It replaces.*twice|dlogvar: .*twice.*replaces",
    ),
    (
        "sampled_kl_backward",
        "dz += dkl[:, :, None] * z\ndmu[...] = dkl.sum(0)[:, None] * mu\ndlogvar[...] = -dkl.sum(axis=0)[:, None] / 2",
        "dmu: This is the derivative of the closed form",
    ),
    (
        "sampled_kl_backward",
        "dz += dkl[:, :, None] * z\ndmu[...] = (dkl[:, :, None] * z).sum(0)\ndlogvar[...] = -dkl.sum(axis=0)[:, None] / 2",
        "dmu: This is the path through z",
    ),
    (
        "sampled_kl_backward",
        "dz[...] = dkl[:, :, None] * z\ndmu[...] = 0\ndlogvar[...] = -dkl.sum(axis=0)[:, None] / 2",
        "dz: It replaces",
    ),
    (
        "sampled_kl_backward",
        "dz += dkl[:, :, None] * z\ndmu[...] = 0\ndlogvar[...] = -dkl.sum(axis=0)[:, None]",
        "dlogvar: It counts twice",
    ),
    (
        "sampled_kl_backward",
        "dz += dkl[:, :, None] * z\ndmu[...] = 0\ndlogvar[...] = -dkl.mean(axis=0)[:, None] / 2",
        "dlogvar: It is divided by L",
    ),
    (
        "sampled_kl_backward",
        "dz += dkl[:, :, None] * z\ndlogvar[...] = -dkl.sum(axis=0)[:, None] / 2",
        "dmu: It was never filled",
    ),
    (
        "sampled_kl_backward",
        "dz += dkl[:, :, None] * (z - eps)\ndmu[...] = 0\ndlogvar[...] = -dkl.sum(axis=0)[:, None] / 2",
        r"dz: eps\^2 is differentiated",
    ),
    (
        "sampled_kl_backward",
        "dz += 2 * dkl[:, :, None] * z\ndmu[...] = 0\ndlogvar[...] = -dkl.sum(axis=0)[:, None] / 2",
        "dz: What is added counts twice",
    ),
    ("affine_backward_add", "dx[...] = dy @ W.T", "dx: It replaces what stood there"),
    ("affine_backward_add", "return dy @ W.T", "dx: It replaces what stood there"),
    ("affine_backward_add", "dx -= dy @ W.T", "dx: The sign of what is added"),
    ("affine_backward_add", "dx += dy @ W", "shapes do not fit"),
    ("affine_backward_add", "dx += dy @ W.T / 2", "dx: What is added is halved"),
    ("affine_backward_add", "return (dx + dy @ W.T) / 2", "dx: Every element is half"),
    (
        "iwae_backward",
        "w = np.exp(-(nll + beta * kl))\nw = w / w.sum(axis=1, keepdims=True)\nreturn w / n_examples, beta * w / n_examples",
        "dnll: The weights of one example do not add up",
    ),
    (
        "iwae_backward",
        "w = np.exp(nll + beta * kl)\nw = w / w.sum(axis=0)\nreturn w / n_examples, beta * w / n_examples",
        "dnll: log w has the wrong sign",
    ),
    (
        "iwae_backward",
        "w = np.exp(-(nll + kl))\nw = w / w.sum(axis=0)\nreturn w / n_examples, beta * w / n_examples",
        "dnll: beta is missing in log w",
    ),
    (
        "iwae_backward",
        "w = np.exp(-(nll + beta * kl))\nw = w / w.sum(axis=0)\nreturn w / n_examples, w / n_examples",
        "dkl: The factor beta is missing",
    ),
    (
        "iwae_backward",
        "w = np.exp(-(nll + beta * kl))\nw = w / w.sum(axis=0)\nreturn w / n_examples / len(nll), beta * w / n_examples / len(nll)",
        "dnll: It is divided by L as well",
    ),
    (
        "iwae_backward",
        "return np.full_like(nll, 1 / (len(nll) * n_examples)), np.full_like(kl, beta / (len(nll) * n_examples))",
        "dnll: Every sample has the same weight",
    ),
    (
        "iwae_backward",
        "w = np.exp(-(nll + beta * kl))\nreturn w / n_examples, beta * w / n_examples",
        "dnll: The weights are not divided by their sum",
    ),
    (
        "iwae_backward",
        "w = np.exp(-(nll + beta * kl))\nw = w / w.sum(axis=0)\nreturn w, beta * w",
        "dnll: The mean over the examples is missing",
    ),
    (
        "iwae_backward",
        "w = np.exp(-(nll + beta * kl))\nw = w / w.sum(axis=0)\nreturn -w / n_examples, -beta * w / n_examples",
        "dnll: The sign is wrong",
    ),
    (
        "iwae_backward",
        "w = np.exp(-(nll + beta * kl))\nw = w / w.sum(axis=0)\nw = w * (1 - w)\nreturn w / n_examples, beta * w / n_examples",
        "dnll: This is the derivative of a softmax",
    ),
    (
        "adam",
        "m[...] = beta1 * m + (1 - beta1) * g\nv[...] = beta2 * v + (1 - beta2) * g**2\np -= learning_rate * m / (np.sqrt(v) + epsilon)",
        "p: The correction of m .* is missing. The correction of v",
    ),
    (
        "adam",
        "m[...] = beta1 * m + (1 - beta1) * g\nv[...] = beta2 * v + (1 - beta2) * g\np -= learning_rate * m / (1 - beta1**step) / (np.sqrt(v / (1 - beta2**step)) + epsilon)",
        "v: g is not squared",
    ),
    (
        "adam",
        "m[...] = beta1 * m + (1 - beta1) * g\nv[...] = beta2 * v + (1 - beta2) * g**2\np -= learning_rate * m / (1 - beta1**step) / np.sqrt(v / (1 - beta2**step) + epsilon)",
        "p: epsilon stands inside the square root",
    ),
    (
        "adam",
        "m[...] = beta1 * m + (1 - beta1) * g\nv[...] = beta2 * v + (1 - beta2) * g**2\np += learning_rate * m / (1 - beta1**step) / (np.sqrt(v / (1 - beta2**step)) + epsilon)",
        "p: The sign of the step is wrong",
    ),
    (
        "adam",
        "p -= learning_rate * m / (1 - beta1**step) / (np.sqrt(v / (1 - beta2**step)) + epsilon)\nm[...] = beta1 * m + (1 - beta1) * g\nv[...] = beta2 * v + (1 - beta2) * g**2",
        "p: The m of before is used.*The v of before is used",
    ),
    (
        "adam",
        "m = beta1 * m + (1 - beta1) * g\nv = beta2 * v + (1 - beta2) * g**2\np -= learning_rate * m / (1 - beta1**step) / (np.sqrt(v / (1 - beta2**step)) + epsilon)",
        "m: Nothing has changed in it. `m = ..` gives",
    ),
    (
        "adam",
        "m[...] = (1 - beta1) * m + beta1 * g\nv[...] = (1 - beta2) * v + beta2 * g**2\np -= learning_rate * m / (1 - beta1**step) / (np.sqrt(v / (1 - beta2**step)) + epsilon)",
        "m: beta1 and 1 - beta1 are exchanged",
    ),
]
