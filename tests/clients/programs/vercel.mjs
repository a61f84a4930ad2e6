// Vercel's `ai`: a tool loop, whole and streamed, through each of its three providers.
import { createAnthropic } from '@ai-sdk/anthropic'
import { createOpenAI } from '@ai-sdk/openai'
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { generateText, Output, stepCountIs, streamText, tool } from 'ai'
import { z } from 'zod'

const baseURL = process.argv[2] + '/v1'
const apiKey = 'any'
const openai = createOpenAI({ baseURL, apiKey })
const models = {
  responses: openai.responses('suffice'),
  chat: openai.chat('suffice'),
  anthropic: createAnthropic({ baseURL, apiKey })('suffice'),
  compatible: createOpenAICompatible({
    name: 'suffice', baseURL, apiKey, includeUsage: true, supportsStructuredOutputs: true,
  })('suffice'),
}
const river = tool({
  description: 'Names a river.',
  inputSchema: z.object({ country: z.string() }),
  execute: async ({ country }) => (country === 'Germany' ? 'river-rhine' : 'none'),
})
for (const [name, model] of Object.entries(models)) {
  const question = {
    model, tools: { river }, prompt: 'Say the river.', maxRetries: 0, stopWhen: stepCountIs(3),
  }
  const whole = await generateText(question)
  const stream = streamText({ ...question, onError: ({ error }) => { throw error } })
  const text = await stream.text
  const usage = await stream.totalUsage
  if (!(usage.inputTokens > 0) || !whole.text.includes('river-rhine') || !text.includes('river-rhine')) {
    throw new Error(`${name}: ${whole.text} | ${text} | ${JSON.stringify(usage)}`)
  }
  const schema = z.object({ river: z.string() })
  const typed = await generateText({
    model, prompt: 'Which one?', maxRetries: 0, output: Output.object({ schema }),
  })
  console.log(name, text, JSON.stringify(typed.output))
  if (typed.output.river !== 'river-rhine') throw new Error(`${name}: ${JSON.stringify(typed.output)}`)
}
